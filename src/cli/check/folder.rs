//! Folders: whose they are, who may enter, what disk they are on, and what state the store is in.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs, statvfs};
use rustix::process::geteuid;

use super::settings::MODE_OTHERS_WRITE;
use super::{Finding, fine, found, set_by};
use crate::server::config::Loaded;
use crate::server::lock::{self, LockError};
use crate::server::trouble::Trouble;
use crate::store::StoreError;
use crate::store::rocks::RocksStore;

/// Below this the store cannot even write its own log and tables.
const DISK_BYTES_MIN: u64 = 256 << 20;
/// Below this an evening's pictures for absent users fill the disk.
const DISK_BYTES_EXPECTED: u64 = 2 << 30;
/// Others may enter.
const MODE_OTHERS: u32 = 0o077;
/// statfs(2): file systems that a reboot empties.
const MEMORY_DISKS: &[u64] = &[0x0102_1994, 0x8584_58f6];

/// A station that runs in the data folder, and its process number where it is known.
pub(super) type Running = Option<Option<u32>>;

pub(super) fn look(loaded: &Loaded, findings: &mut Vec<Finding>) -> Running {
    let config = &loaded.config;
    let dir = &config.data_dir;
    findings.extend(of_data(dir, &set_by(loaded, "data_dir")));
    let place = if dir.is_dir() { dir.clone() } else { standing(dir) };
    findings.extend(of_disk(&place));
    if let Some(dir) = &config.log.dir {
        let by = set_by(loaded, "log.dir");
        findings.push(match usable(dir) {
            Ok(_) => fine(format!("log folder {}{by} is writable", dir.display())),
            Err(said) => {
                found(Trouble::LogFolder, format!("log folder {}{by} {said}", dir.display()))
            }
        });
    }
    let running = match lock::look(dir) {
        Err(LockError::Running(pid)) => {
            let pid_text = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
            let what = format!("a station runs already in {}{pid_text}", dir.display());
            findings.push(found(Trouble::FolderRunning, what));
            return Some(pid);
        }
        _ => None,
    };
    of_store(loaded, findings);
    running
}

/// Its facts if it is there; nothing if it can be made; or what is wrong.
fn usable(dir: &Path) -> Result<Option<Metadata>, String> {
    match std::fs::metadata(dir) {
        Ok(facts) if !facts.is_dir() => Err("is not a folder".to_owned()),
        Ok(facts) => access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
            .map(|()| Some(facts))
            .map_err(|error| format!("cannot be written: {error}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = standing(dir);
            access(&parent, Access::WRITE_OK | Access::EXEC_OK)
                .map(|()| None)
                .map_err(|error| format!("cannot be made: {}: {error}", parent.display()))
        }
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// The station makes a missing folder itself, so then its nearest parent counts.
fn of_data(dir: &Path, by: &str) -> Vec<Finding> {
    let what = |said: &str| format!("data folder {}{by} {said}", dir.display());
    let facts = match usable(dir) {
        Ok(Some(facts)) => facts,
        Ok(None) => return vec![fine(what("will be made"))],
        Err(said) => {
            let kind = if dir.exists() && !dir.is_dir() {
                Trouble::FolderNotAFolder
            } else {
                Trouble::FolderUnwritable
            };
            return vec![found(kind, what(&said))];
        }
    };
    let mut findings = Vec::new();
    findings.extend(of_owner(facts.uid(), geteuid().as_raw(), &what));
    let remedy = format!("chmod 700 {}", dir.display());
    let said = format!("is open to other users (mode {:o})", facts.mode() & 0o777);
    findings.push(match facts.mode() {
        mode if mode & MODE_OTHERS_WRITE != 0 => {
            found(Trouble::FolderWritable, what(&said)).by(remedy)
        }
        mode if mode & MODE_OTHERS != 0 => found(Trouble::FolderReadable, what(&said)).by(remedy),
        _ => fine(what("is writable and private")),
    });
    findings
}

/// Root may write anywhere, and what it writes the service's own user cannot read any more.
fn of_owner(owner: u32, asker: u32, what: &dyn Fn(&str) -> String) -> Option<Finding> {
    let said = format!("belongs to user {owner}, and you are user {asker}");
    let remedy =
        format!("run the station, and this check, as that user: `sudo -u '#{owner}' dims …`");
    (owner != asker).then(|| found(Trouble::FolderForeign, what(&said)).by(remedy))
}

/// The nearest folder above that exists.
fn standing(dir: &Path) -> PathBuf {
    let above = dir.ancestors().skip(1).find(|above| above.is_dir());
    match above {
        Some(above) => above.to_owned(),
        None => PathBuf::from("."),
    }
}

fn of_disk(place: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(disk) = statvfs(place) {
        findings.push(of_room(place, disk.f_bavail.saturating_mul(disk.f_frsize)));
    }
    if let Ok(disk) = statfs(place) {
        findings.extend(of_disk_kind(place, disk.f_type.cast_unsigned()));
    }
    findings
}

fn of_room(place: &Path, free: u64) -> Finding {
    let what = format!("disk of {}: {} MiB free", place.display(), free >> 20);
    let remedy = |wanted: u64| format!("at least {} MiB should be free", wanted >> 20);
    match free {
        free if free < DISK_BYTES_MIN => found(Trouble::DiskFull, what).by(remedy(DISK_BYTES_MIN)),
        free if free < DISK_BYTES_EXPECTED => {
            found(Trouble::DiskLow, what).by(remedy(DISK_BYTES_EXPECTED))
        }
        _ => fine(what),
    }
}

fn of_disk_kind(place: &Path, kind: u64) -> Option<Finding> {
    let what = format!("disk of {} is in memory", place.display());
    MEMORY_DISKS.contains(&kind).then(|| found(Trouble::DiskVolatile, what))
}

fn of_store(loaded: &Loaded, findings: &mut Vec<Finding>) {
    let path = loaded.config.data_dir.join("store");
    let store = match RocksStore::inspect(&path) {
        Ok(Some(store)) => store,
        Ok(None) => return,
        Err(error) => {
            let kind = match error {
                StoreError::NewerFormat { .. } => Trouble::StoreNewer,
                StoreError::Damaged { .. } => Trouble::StoreDamaged,
                _ if access(&path, Access::READ_OK | Access::EXEC_OK).is_err() => {
                    Trouble::StoreUnreadable
                }
                StoreError::Denied { .. } => Trouble::StoreUnreadable,
                _ => Trouble::StoreDamaged,
            };
            return findings.push(found(kind, format!("store {}: {error}", path.display())));
        }
    };
    findings.push(fine(format!("store {} can be read", path.display())));
    for (name, id) in &loaded.config.ans {
        if store.knows(id).is_ok_and(|known| !known) {
            let what = format!("ans.{name}{}: {id}", set_by(loaded, &format!("ans.{name}")));
            findings.push(found(Trouble::AnsUnknown, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(findings: impl IntoIterator<Item = Finding>) -> Vec<&'static str> {
        findings.into_iter().filter_map(|finding| Some(finding.trouble?.code())).collect()
    }

    #[test]
    fn room_on_the_disk_is_asked_for() {
        let place = Path::new("x");
        for (free, expected) in [
            (DISK_BYTES_MIN - 1, &["disk-full"][..]),
            (DISK_BYTES_MIN, &["disk-low"]),
            (DISK_BYTES_EXPECTED, &[]),
        ] {
            assert_eq!(codes([of_room(place, free)]), expected);
        }
        assert!(of_room(place, 0).to_string().contains("at least 256 MiB should be free"));
    }

    #[test]
    fn memory_is_no_disk() {
        let place = Path::new("x");
        assert_eq!(codes(of_disk_kind(place, 0x0102_1994)), ["disk-volatile"]);
        assert_eq!(codes(of_disk_kind(place, 0xef53)), [""; 0]);
    }

    #[test]
    fn somebody_elses_folder_is_said() {
        let what = |said: &str| said.to_owned();
        let finding = of_owner(1000, 0, &what).unwrap();
        assert_eq!(finding.what, "belongs to user 1000, and you are user 0");
        assert_eq!(codes([finding]), ["folder-foreign"]);
        assert!(of_owner(7, 7, &what).is_none());
    }
}
