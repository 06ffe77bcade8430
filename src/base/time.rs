//! Time as it is handed in: plain numbers, so that a test can run a week in a millisecond.

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds on a clock that never goes back; for time-outs.
    pub mono_ms: u64,
    /// Microseconds since 1970; for what is written down.
    pub wall_us: u64,
}

impl Now {
    /// Seconds since 1970, as messages write it.
    pub fn wall_s(self) -> f64 {
        // Microseconds since 1970 stay below 2^53 until the year 2255.
        self.wall_us as f64 / 1e6
    }

    /// Milliseconds since 1970, as the store writes it.
    pub fn wall_ms(self) -> u64 {
        self.wall_us / 1000
    }
}
