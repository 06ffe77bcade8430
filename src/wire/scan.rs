//! Finding the next header in a stream that may hold noise.

/// What the bytes from one offset on are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan<H> {
    /// A whole valid header.
    Found(H),
    /// As yet nothing speaks against a header.
    Partial,
    /// Noise.
    No,
}

/// First offset in `view` at which `parse` does not see noise, with what it saw there; the length
/// of `view` if all is noise. Only offsets whose byte is `first` are tried. Linear in `view`,
/// since `parse` looks at a bounded number of bytes.
pub(super) fn search<H>(
    view: &[u8],
    first: u8,
    parse: impl Fn(&[u8]) -> Scan<H>,
) -> (usize, Scan<H>) {
    for at in memchr::memchr_iter(first, view) {
        match parse(view.get(at..).unwrap_or_default()) {
            Scan::No => {}
            seen => return (at, seen),
        }
    }
    (view.len(), Scan::No)
}

/// Big-endian number in the four bytes at `at`.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
