//! Files that come and go: their names, their places, and the record of what was said.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::digest::sha256;
use crate::base::encode::hex_encode;
use crate::client::file::{FILE_BYTES_MAX, FileServer};
use crate::client::folder;

/// Longest file that travels inside a message, in bytes. Written as text and under seal it takes
/// nearly twice the room, and every station on the way has to hold it.
pub(super) const INLINE_BYTES_MAX: u64 = 1 << 20;

/// Bytes of files that are saved in one run; strangers may send, too.
pub(super) const SAVED_BYTES_MAX: u64 = 1 << 30;

/// Longest name of a saved file, in bytes, and names that are tried.
const NAME_BYTES_MAX: usize = 120;
const NAMES_MAX: u32 = 1000;

/// A record that is longer is put aside, in place of the one put aside before.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// How far back a record is looked at.
const TAIL_BYTES_MAX: u64 = 1 << 20;

/// Makes a folder that is its owner's alone.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The last part of a name that somebody gave, without what has a meaning to a system.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: &char| !c.is_control() && !"<>:\"|?*\u{202e}".contains(*c);
    let mut safe: String = last.chars().filter(plain).collect();
    safe = safe.trim_matches(|c: char| c == '.' || c.is_whitespace()).to_owned();
    while safe.len() > NAME_BYTES_MAX {
        safe.remove(0);
    }
    if safe.is_empty() { "file".to_owned() } else { safe }
}

/// Saves a file that came under a name like the one given, never over another.
pub(super) fn save_download(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    make_folder(folder)?;
    let name = safe_name(name);
    for number in 1..=NAMES_MAX {
        let path = folder.join(if number == 1 { name.clone() } else { format!("{number}-{name}") });
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => return file.write_all(bytes).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of this name"))
}

/// What a file to be sent holds, and its name. Refuses what is none, and what is longer than
/// `bytes_max`.
pub(super) fn read_upload(path: &Path, bytes_max: u64) -> Result<(Vec<u8>, String), String> {
    let shown = path.display();
    let length = fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if !length.is_file() {
        return Err(format!("{shown}: not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("{shown}: {error}"))?;
    if bytes.len() as u64 > bytes_max {
        let kib = bytes_max >> 10;
        let more = "larger ones need --upload-dir, a folder that both sides see";
        return Err(format!("{shown}: longer than {kib} KiB, which a message holds; {more}"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((bytes, name))
}

/// A folder in place of a file server: covered files under the digest of their bytes.
pub(super) struct Shelf(pub(super) PathBuf);

impl FileServer for Shelf {
    type Error = io::Error;

    fn upload(&mut self, covered: &[u8], _name: &str) -> io::Result<String> {
        let name = hex_encode(&sha256(covered));
        let path = self.0.join(&name);
        folder::write_bytes(&path, covered, false).map_err(io::Error::other)?;
        Ok(format!("file:{name}"))
    }

    fn download(&mut self, url: &str) -> io::Result<Vec<u8>> {
        // A digest or nothing: the address came from somebody.
        let name = url.strip_prefix("file:").filter(|name| {
            name.len() == 64 && name.bytes().all(|letter| letter.is_ascii_hexdigit())
        });
        let name = name.ok_or_else(|| io::Error::other("it lies at no place known here"))?;
        let mut bytes = Vec::new();
        let limit = FILE_BYTES_MAX as u64 + 1;
        File::open(self.0.join(name))?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Writes a line to the record of a conversation.
pub(super) fn remember(path: &Path, entry: &Value) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    if fs::metadata(path).is_ok_and(|record| record.len() > RECORD_BYTES_MAX) {
        fs::rename(path, path.with_extension("old"))?;
    }
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    // In one write, so that a line is whole.
    file.write_all(format!("{entry}\n").as_bytes())
}

/// The last lines of a record, at most `count`. Lines that are none, after a crash, are left out.
pub(super) fn recall(path: &Path, count: usize) -> io::Result<Vec<Value>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let lines = BufReader::new(file.take(TAIL_BYTES_MAX)).split(b'\n');
    let entries = lines.map_while(Result::ok).filter_map(|line| serde_json::from_slice(&line).ok());
    let mut all: Vec<Value> = entries.filter(Value::is_object).collect();
    Ok(all.split_off(all.len().saturating_sub(count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_name_leads_out_of_the_folder_or_over_a_file() {
        for (given, safe) in [
            ("../../etc/passwd", "passwd"),
            ("C:\\Windows\\x.dll", "x.dll"),
            ("..", "file"),
            ("/", "file"),
            (".bashrc", "bashrc"),
            ("a\u{0}\nb.txt", "ab.txt"),
        ] {
            assert_eq!(safe_name(given), safe);
        }
        assert!(safe_name(&"ä".repeat(300)).len() <= NAME_BYTES_MAX);
        let folder = tempfile::tempdir().unwrap();
        let one = save_download(folder.path(), "../x.txt", b"1").unwrap();
        let two = save_download(folder.path(), "x.txt", b"2").unwrap();
        assert_eq!((one, two), (folder.path().join("x.txt"), folder.path().join("2-x.txt")));
        assert_eq!(fs::read(folder.path().join("x.txt")).unwrap(), b"1");
    }

    #[test]
    fn a_shelf_gives_out_what_it_took_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        let mut shelf = Shelf(folder.path().join("shelf"));
        let url = shelf.upload(b"covered", "cat.png").unwrap();
        assert_eq!(shelf.download(&url).unwrap(), b"covered");
        for url in ["file:../secret", "file:secret", "http://127.0.0.1/", ""] {
            assert!(shelf.download(url).is_err());
        }
    }

    #[test]
    fn a_record_gives_back_its_last_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/record.jsonl");
        assert!(recall(&path, 5).unwrap().is_empty());
        for number in 0..5 {
            remember(&path, &json!({"n": number})).unwrap();
        }
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"n\":").unwrap();
        assert_eq!(recall(&path, 2).unwrap(), [json!({"n": 3}), json!({"n": 4})]);
    }
}
