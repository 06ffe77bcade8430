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

/// Seconds since 1970 as messages write them, to the microsecond: what `{:.6}` writes, by integers
/// where they are enough.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub f64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Above it, or below zero, neighbours of a number are further apart than microseconds.
        const EXACT_MAX: f64 = 8e9;
        match (0.0..EXACT_MAX).contains(&self.0) {
            true => {
                let micros = (self.0 * 1e6).round() as u64;
                write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)
            }
            false => write!(f, "{:.6}", self.0),
        }
    }
}

/// Seconds since 1970, finite and not negative, as date and time: `2025-10-09 08:53:20 UTC`.
#[must_use]
pub fn utc(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, rest) = (whole / 86_400, whole % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of a number of days since 1970. Years begin in March here, so that the
/// leap day is the last one.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_to_the_microsecond() {
        for us in [0, 1, 999_999, 1_000_000, 1_790_000_000_123_456, 7_999_999_999_999_999_u64] {
            let seconds = Now { mono_ms: 0, wall_us: us }.wall_s();
            assert_eq!(Seconds(seconds).to_string(), format!("{seconds:.6}"));
        }
        for odd in [-1.5, 1e20] {
            assert_eq!(Seconds(odd).to_string(), format!("{odd:.6}"));
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0.0, "1970-01-01 00:00:00 UTC"),
            (951_782_399.9, "2000-02-28 23:59:59 UTC"),
            (951_782_400.0, "2000-02-29 00:00:00 UTC"),
            (1_760_000_000.0, "2025-10-09 08:53:20 UTC"),
            (4_107_542_400.0, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
