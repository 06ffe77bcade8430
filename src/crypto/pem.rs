//! Armor and DER, as lax as the keys in the wild demand: any line length, any line end, text
//! around the block, the wrong label. Strict PEM readers refuse the oldest accounts.

use crate::base::encode::{base64_decode, base64_encode};
use crate::base::limits::PEM_BYTES_MAX;

/// The bytes between the first pair of lines with one of `labels`, tried in their order.
pub(super) fn decode(text: &str, labels: &[&str]) -> Option<Vec<u8>> {
    if text.len() > PEM_BYTES_MAX {
        return None;
    }
    labels.iter().find_map(|label| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        base64_decode(body).ok().filter(|der| !der.is_empty())
    })
}

/// Armor round `der` with lines of `width` characters, without a line break at the end.
pub(super) fn encode(label: &str, der: &[u8], width: usize) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, symbol) in base64_encode(der).chars().enumerate() {
        if index > 0 && index % width == 0 {
            text.push('\n');
        }
        text.push(symbol);
    }
    text.push_str(&format!("\n-----END {label}-----"));
    text
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// Reads DER values one after the other. Only what the few key formats need.
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the next value, if it has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            // Keys of one or two length bytes cover all that fits into the longest PEM.
            0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
            0x82 => {
                let (bytes, rest) = rest.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*bytes)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        if *first != tag {
            return None;
        }
        self.0 = rest;
        Some(content)
    }

    /// A reader of the next value, which must be a sequence.
    pub(super) fn sequence(&mut self) -> Option<Der<'a>> {
        self.take(SEQUENCE).map(Der)
    }

    /// Whether everything was read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armor_is_read_in_any_shape_and_written_in_one() {
        let text = encode("KEY", &[7; 50], 64);
        assert!(
            text.starts_with("-----BEGIN KEY-----\nBwc") && text.ends_with("-----END KEY-----")
        );
        assert_eq!(text.lines().nth(1).map(str::len), Some(64));
        for shape in [
            text.clone(),
            text.replace('\n', "\r\n"),
            text.replace('\n', ""),
            format!("Bag: x\n{text}\ntrailing"),
        ] {
            assert_eq!(decode(&shape, &["OTHER", "KEY"]), Some(vec![7; 50]), "{shape}");
        }
    }

    #[test]
    fn what_is_not_armor_is_refused() {
        let text = encode("KEY", &[7; 50], 64);
        assert_eq!(decode(&text, &["OTHER"]), None);
        assert_eq!(decode(&text.replace("END", "FIN"), &["KEY"]), None);
        assert_eq!(decode("BwcH", &["KEY"]), None);
        assert_eq!(decode("-----BEGIN KEY----------END KEY-----", &["KEY"]), None);
        assert_eq!(decode(&encode("KEY", &[7; PEM_BYTES_MAX], 64), &["KEY"]), None);
    }

    #[test]
    fn lengths_beyond_the_bytes_are_refused() {
        assert_eq!(Der::new(&[0x02, 1, 5]).take(INTEGER), Some(&[5][..]));
        for bad in [&[0x02, 2, 5][..], &[0x02], &[], &[0x02, 0x81], &[0x02, 0x82, 1], &[0x02, 0x80]]
        {
            assert_eq!(Der::new(bad).take(INTEGER), None, "{bad:?}");
        }
        assert_eq!(Der::new(&[0x04, 0]).take(INTEGER), None);
    }
}
