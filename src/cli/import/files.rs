//! Files that have no place in the store yet: contacts, what is known of groups, lists of stations. They
//! are carried over as they are, if they are sound JSON.

use std::fs;
use std::io;
use std::path::Path;

use super::super::Refusal;
use super::Tally;
use super::account::is_account_file;
use crate::client::folder::{self, Fault, Folder, FolderError};

/// Folders inside folders: `protected/{ADDRESS}/x.js` takes one.
const DEPTH_MAX: usize = 4;
/// Of what is public, accounts are in the store, and these are carried.
const PUBLIC: [&str; 2] = ["providers.js", "everywhere/stations.js"];

/// Carries them from one folder to another; what differs there is replaced.
pub(in crate::cli) fn copy_all(
    from: &Folder,
    to: &Folder,
    tally: &mut Tally,
) -> Result<(), Refusal> {
    for name in PUBLIC {
        copy(&from.public.join(name), &to.public.join(name), false, tally)?;
    }
    tree(&from.private, &to.private, DEPTH_MAX, tally)?;
    tree(&from.protected, &to.protected, DEPTH_MAX, tally)
}

fn tree(from: &Path, to: &Path, depth: usize, tally: &mut Tally) -> Result<(), Refusal> {
    let named = |error| FolderError { path: from.to_owned(), fault: Fault::Io(error) };
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            tally.damaged(&named(error));
            return Ok(());
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                tally.damaged(&named(error));
                continue;
            }
        };
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if depth > 0 {
                tree(&path, &to.join(name), depth - 1, tally)?;
            }
        } else if is_account_file(Path::new(&name)) {
            // Proven and written by its own rules.
        } else if path.extension().is_some_and(|ending| ending == "js") {
            copy(&path, &to.join(name), true, tally)?;
        } else {
            tally.left_out += 1;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, secret: bool, tally: &mut Tally) -> Result<(), Refusal> {
    let sound = folder::read_json(from).and_then(|_| folder::read_bytes(from));
    match sound {
        Ok(None) => {}
        Ok(Some(bytes)) if folder::read_bytes(to)?.as_ref() == Some(&bytes) => {
            tally.files.known += 1;
        }
        Ok(Some(bytes)) => {
            folder::write_bytes(to, &bytes, secret)?;
            tally.files.new += 1;
        }
        Err(error) => tally.damaged(&error),
    }
    Ok(())
}
