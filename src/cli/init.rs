//! `dims init`: a data folder that only its owner may enter, with a commented configuration in it.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use super::{CANNOT_RUN, complain, say};
use crate::server::config::{EXAMPLE, FILE_NAME};

/// Private keys and mail will lie here.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

pub(super) fn init(dir: &Path) -> ExitCode {
    match make(dir) {
        Ok(()) => {
            let dir = dir.display();
            say(format_args!("made {dir} with {FILE_NAME}, which explains every key"));
            say(format_args!("check it: dims check --data-dir {dir}"));
            say(format_args!("run it:   dims run --data-dir {dir}"));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            complain(reason);
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Nothing that exists is changed but the rights of an empty folder.
fn make(dir: &Path) -> Result<(), String> {
    let file = dir.join(FILE_NAME);
    if file.exists() {
        return Err(format!("{} is there already; nothing was changed", file.display()));
    }
    let named = |error: io::Error| format!("{}: {error}", dir.display());
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(dir).map_err(named)?;
    if std::fs::read_dir(dir).map_err(named)?.next().is_some() {
        return Err(format!("{} is not empty; name a new or an empty folder", dir.display()));
    }
    std::fs::set_permissions(dir, Permissions::from_mode(FOLDER_MODE)).map_err(named)?;
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&file)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    out.write_all(text().as_bytes())
        .and_then(|()| out.sync_all())
        .map_err(|error| format!("{}: {error}", file.display()))
}

/// The example, with the folder of the file as the data folder.
fn text() -> String {
    EXAMPLE.replace("#data_dir = \"\"", "data_dir = \".\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_folder_is_its_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("a/b");
        make(&dir).unwrap();
        assert_eq!((mode(&dir), mode(&dir.join(FILE_NAME))), (FOLDER_MODE, FILE_MODE));
        assert!(
            make(&dir).unwrap_err().ends_with("station.toml is there already; nothing was changed")
        );
    }

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::write(place.path().join("letter"), "x").unwrap();
        assert!(make(place.path()).unwrap_err().contains("is not empty"));
        assert_eq!(mode(place.path()), 0o755);
    }

    #[test]
    fn the_written_file_keeps_its_data_beside_itself() {
        assert!(text().contains("\ndata_dir = \".\"\n"));
    }
}
