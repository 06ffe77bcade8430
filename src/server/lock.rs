//! One station a folder: `dims.pid`, locked by the station that runs and with its process number in it.
//!
//! RocksDB has a lock of its own, but takes it only after it has put the running station's log aside;
//! a second start every ten seconds, as cron makes it, must leave no trace.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// The file's name in the data folder.
pub const FILE_NAME: &str = "dims.pid";
/// A number and the end of its line.
const FILE_BYTES_MAX: usize = 32;
/// A station that was killed is taken down meanwhile, and whoever only looks is through.
const PATIENCE: Duration = Duration::from_millis(200);

/// Held for as long as a station runs; the system lets go of it however the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Why a folder is not ours.
#[derive(Debug)]
pub enum LockError {
    /// A station runs in it, with this process number if it could be read.
    Running(Option<u32>),
    /// The file.
    File(io::Error),
}

impl FolderLock {
    /// Takes the folder, or says who has it.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join(FILE_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(LockError::File)?;
        let until = Instant::now() + PATIENCE;
        while let Err(error) = lock(&file, FlockOperation::NonBlockingLockExclusive) {
            if !matches!(error, LockError::Running(_)) || Instant::now() > until {
                return Err(error);
            }
            std::thread::sleep(PATIENCE / 20);
        }
        file.set_len(0).map_err(LockError::File)?;
        writeln!(file, "{}", std::process::id()).map_err(LockError::File)?;
        Ok(Self { _file: file })
    }
}

/// Who runs in the folder: an error if it cannot be told, and nothing is changed.
pub fn look(data_dir: &Path) -> Result<(), LockError> {
    match File::open(data_dir.join(FILE_NAME)) {
        Ok(file) => lock(&file, FlockOperation::NonBlockingLockShared),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(LockError::File(error)),
    }
}

fn lock(file: &File, how: FlockOperation) -> Result<(), LockError> {
    match flock(file, how) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut bytes = [0; FILE_BYTES_MAX];
            let text = file.read_at(&mut bytes, 0).ok().and_then(|length| bytes.get(..length));
            let text = text.and_then(|bytes| std::str::from_utf8(bytes).ok());
            Err(LockError::Running(text.and_then(|text| text.trim().parse().ok())))
        }
        Err(error) => Err(LockError::File(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_station_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        look(folder.path()).unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        for refused in [FolderLock::take(folder.path()).map(drop), look(folder.path())] {
            let pid = std::process::id();
            assert!(matches!(refused, Err(LockError::Running(Some(found))) if found == pid));
        }
        drop(first);
        look(folder.path()).unwrap();
        FolderLock::take(folder.path()).unwrap();
    }
}
