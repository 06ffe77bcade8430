//! What a bot must not forget, as a file that grows by lines: JSON texts, the later one about a
//! thing counts. It is written anew when most of it is old.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::bot::Bot;

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Lines that are not worth writing anew yet, and bytes.
const LINES_MIN: usize = 4096;
const BYTES_MIN: u64 = 64 << 20;

/// The file, open at its end.
pub(super) struct Notes {
    path: PathBuf,
    file: File,
    lines: usize,
    bytes: u64,
    /// Bytes of the whole state, when it was last written.
    bytes_whole: u64,
}

impl Notes {
    /// Reads the file to `bot`, or makes it. A line that was cut off is taken off; one that the bot
    /// cannot read is told and left.
    pub(super) fn open(path: &Path, bot: &mut dyn Bot) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        let (mut lines, mut whole, mut line) = (0, 0, Vec::new());
        let mut reader = BufReader::new(&file);
        loop {
            line.clear();
            let read = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                if read as u64 == LINE_BYTES_MAX {
                    return Err(io::Error::other("a line is too long"));
                }
                break;
            }
            (lines, whole) = (lines + 1, whole + read as u64);
            if let Err(error) = bot.recall(&line) {
                tracing::warn!(path = %path.display(), line = lines, %error, "left out");
            }
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), file, lines, bytes: whole, bytes_whole: whole })
    }

    /// Writes down what `bot` has to say since the last time; it is on the disk afterwards.
    pub(super) fn take(&mut self, bot: &mut dyn Bot) -> io::Result<()> {
        let notes = bot.take_notes();
        if notes.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for note in &notes {
            text.push_str(note);
            text.push('\n');
        }
        self.file.write_all(text.as_bytes())?;
        self.lines += notes.len();
        self.bytes += text.len() as u64;
        let much = self.bytes > BYTES_MIN.max(2 * self.bytes_whole);
        if much || self.lines > LINES_MIN.max(2 * bot.size()) {
            return self.rewrite(bot);
        }
        self.file.sync_data()
    }

    /// The whole state in place of what led to it.
    fn rewrite(&mut self, bot: &dyn Bot) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let (mut out, mut lines, mut bytes, mut failed) = (BufWriter::new(file), 0, 0, None);
        bot.tell_all(&mut |note| {
            (lines, bytes) = (lines + 1, bytes + note.len() as u64 + 1);
            let written = out.write_all(note.as_bytes()).and_then(|()| out.write_all(b"\n"));
            failed = failed.take().or(written.err());
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        (self.file, self.lines) = (file, lines);
        (self.bytes, self.bytes_whole) = (bytes, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bot::Archivist;
    use crate::proto::id::Id;

    fn archivist() -> Archivist {
        Archivist::new(&Id::moky()).unwrap()
    }

    fn somebody(n: u32) -> Id {
        let address = crate::proto::address::Address::btc(0, &n.to_be_bytes());
        Id::build(Some("user"), &address).unwrap()
    }

    #[test]
    fn what_was_written_is_there_again_but_for_a_line_that_was_cut_off() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("archivist.notes");
        let mut bot = archivist();
        let mut notes = Notes::open(&path, &mut bot).unwrap();
        bot.learn(&somebody(1), "Alice");
        notes.take(&mut bot).unwrap();
        let whole = std::fs::read(&path).unwrap();
        bot.learn(&somebody(2), "Bob");
        notes.take(&mut bot).unwrap();
        let both = std::fs::metadata(&path).unwrap().len();
        for cut in u64::try_from(whole.len()).unwrap()..both {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
            let mut again = archivist();
            let mut notes = Notes::open(&path, &mut again).unwrap();
            assert_eq!(again.accounts(), 1);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
            again.learn(&somebody(2), "Bob");
            notes.take(&mut again).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), both);
        }
        std::fs::write(&path, [b"not a note\n", &whole[..]].concat()).unwrap();
        let mut again = archivist();
        Notes::open(&path, &mut again).unwrap();
        assert_eq!(again.accounts(), 1);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("archivist.notes");
        let mut bot = archivist();
        let mut notes = Notes::open(&path, &mut bot).unwrap();
        for turn in 0..=LINES_MIN {
            bot.learn(&somebody(0), &format!("name {turn}"));
            if turn % 256 == 0 {
                notes.take(&mut bot).unwrap();
            }
        }
        assert_eq!(notes.lines, 1);
        bot.learn(&somebody(1), "Bob");
        notes.take(&mut bot).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        let mut again = archivist();
        Notes::open(&path, &mut again).unwrap();
        assert_eq!(again.accounts(), 2);
    }
}
