//! Whole files, read and replaced at once.
#![expect(clippy::disallowed_methods, reason = "this is where files are opened")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::Failure;

/// The file's bytes; none if there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file(path, error)),
    }
}

/// The text of a file that must be there.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::file(path, error))
}

/// Puts the file there whole, with the folder that it lies in.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, bytes)?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|error| Failure::file(path, error))
}

/// Length of a file, in bytes; 0 if there is none.
pub(crate) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Writes `bytes` at a place of a file, which is made if it is not there.
pub(crate) fn write_at(path: &Path, at: u64, bytes: &[u8]) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    };
    write().map_err(|error| Failure::file(path, error))
}

/// A piece of a file.
pub(crate) fn read_at(path: &Path, at: u64, len: usize) -> Result<Vec<u8>, Failure> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes).map(|()| bytes)
    };
    read().map_err(|error| Failure::file(path, error))
}
