//! CRC-32C (Castagnoli), eight bytes a step.
//!
//! A CRC and not a digest, since it guards against disks and not against people: it finds every
//! burst of up to 32 bits, which a cut digest does only most of the time, and costs a fifth of
//! SHA-256 where the processor has no instructions for that.

const POLYNOMIAL: u32 = 0x82F6_3B78;

static TABLES: [[u32; 256]; 8] = tables();

#[expect(clippy::cast_possible_truncation, reason = "the index stays below 256")]
#[expect(clippy::indexing_slicing, reason = "runs at compile time, over constant bounds")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0_u32; 256]; 8];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        tables[0][index] = value;
        index += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut index = 0;
        while index < 256 {
            let before = tables[table - 1][index];
            tables[table][index] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            index += 1;
        }
        table += 1;
    }
    tables
}

/// The checksum of `parts`, one after the other.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(!0, |state, part| update(state, part))
}

fn update(mut state: u32, bytes: &[u8]) -> u32 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for &[a, b, c, d, e, f, g, h] in chunks {
        let [p, q, r, s] = (state ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
        state = at(t7, p)
            ^ at(t6, q)
            ^ at(t5, r)
            ^ at(t4, s)
            ^ at(t3, e)
            ^ at(t2, f)
            ^ at(t1, g)
            ^ at(t0, h);
    }
    for &byte in rest {
        let [low, ..] = state.to_le_bytes();
        state = (state >> 8) ^ at(t0, low ^ byte);
    }
    state
}

#[expect(clippy::indexing_slicing, reason = "a byte cannot leave a table of 256")]
#[inline]
fn at(table: &[u32; 256], index: u8) -> u32 {
    table[usize::from(index)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_come_out() {
        assert_eq!(crc32c(&[b"123456789"]), 0xE306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8A91_36AA);
        assert_eq!(crc32c(&[&[0xFF; 32]]), 0x62A8_AB43);
        assert_eq!(crc32c(&[]), 0);
    }

    #[test]
    fn the_cut_into_parts_does_not_matter() {
        let bytes: Vec<u8> = (0..=255).collect();
        for cut in 0..bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(crc32c(&[front, back]), crc32c(&[&bytes]));
        }
    }
}
