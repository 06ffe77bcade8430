//! The station's own account, in its folder: files in the layout of the reference, so that either can
//! start on what the other made. Which one it is says the configuration, or the file `station.id`.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value};

use crate::client::account::Account;
use crate::client::folder::{self, Folder, FolderError};
use crate::crypto::error::CryptoError;
use crate::crypto::key::{OpenKey, SignKey};
use crate::proto::id::Id;
use crate::proto::meta::MetaKind;
use crate::server::config::Config;

/// Network byte of a station's address.
const STATION: u8 = 2;
/// Seed of a generated identity; the name in its ID.
const SEED: &str = "dims";
/// RSA bits of a generated message key.
const MESSAGE_KEY_BITS: usize = 2048;
/// Names a generated identity, in the data folder.
pub const ID_FILE: &str = "station.id";

/// Why the station has no identity to start with; the operator's to mend.
#[derive(Debug)]
pub enum IdentityError {
    /// A file of the account.
    File(FolderError),
    /// The ID is none, or not that of a station.
    Id(String),
    /// The station has no key that others could write to.
    NoMessageKey(String),
    /// A key or a visa could not be made.
    Crypto(String, CryptoError),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Id(id) => write!(f, "\"{id}\" is not the ID of a station"),
            Self::NoMessageKey(id) => {
                write!(
                    f,
                    "{id} has no message key (secret_keys.js); `dims id modify {id}` makes one"
                )
            }
            Self::Crypto(id, error) => write!(f, "the visa of {id} cannot be made: {error}"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl From<FolderError> for IdentityError {
    fn from(error: FolderError) -> Self {
        Self::File(error)
    }
}

type Done<T> = Result<T, IdentityError>;

/// Where a configuration keeps accounts: the reference's folders if it is the reference's.
#[must_use]
pub fn folder_of(config: &Config) -> Folder {
    match &config.reference {
        Some(files) => {
            Folder::new(files.public.clone(), files.protected.clone(), files.private.clone())
        }
        None => Folder::below(&config.data_dir),
    }
}

/// The station's account, which must be there.
pub fn load(config: &Config) -> Done<Account> {
    let text = match &config.station.id {
        Some(id) => id.clone(),
        None => read_id(&config.data_dir.join(ID_FILE))?.unwrap_or_default(),
    };
    let id = Id::parse(&text).map_err(|_| IdentityError::Id(text))?;
    Ok(folder_of(config).account(&id, None)?)
}

/// The station's account: the one named, the one in the folder, or a new one. Its visa is renewed,
/// so that clients see when the station started and what it is called now.
pub fn load_or_create(config: &Config, profile: &Map<String, Value>, now_s: f64) -> Done<Account> {
    let (accounts, id_file) = (folder_of(config), config.data_dir.join(ID_FILE));
    let known = match &config.station.id {
        Some(id) => Some(id.clone()),
        None => read_id(&id_file)?,
    };
    let Some(id) = known else {
        return create(&accounts, &id_file, profile, now_s);
    };
    let parsed = Id::parse(&id).ok().filter(|id| id.is_user() && !id.is_broadcast());
    let parsed = parsed.ok_or_else(|| IdentityError::Id(id.clone()))?;
    let mut account = accounts.account(&parsed, None)?;
    if account.message_keys().is_empty() {
        // The accounts of 2019 have one key for everything.
        let map = account.sign_key().to_map().ok();
        let key = map.and_then(|map| OpenKey::from_map(&map).ok());
        account.add_message_key(key.ok_or_else(|| IdentityError::NoMessageKey(id.clone()))?);
    }
    let mut properties =
        account.document().map(|document| document.properties().clone()).unwrap_or_default();
    properties.extend(profile.clone());
    account.publish(properties, now_s).map_err(|error| IdentityError::Crypto(id, error))?;
    accounts.save_documents(account.id(), account.documents())?;
    Ok(account)
}

fn read_id(path: &Path) -> Done<Option<String>> {
    let bytes = folder::read_bytes(path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

fn create(
    accounts: &Folder,
    id_file: &Path,
    profile: &Map<String, Value>,
    now_s: f64,
) -> Done<Account> {
    let made = || -> Result<Account, CryptoError> {
        let sign = SignKey::generate_ecc()?;
        let open = OpenKey::generate(MESSAGE_KEY_BITS)?;
        let seed = Some(SEED);
        Account::create(MetaKind::Mkm, STATION, seed, sign, open, now_s, profile.clone())
    };
    let account = made().map_err(|error| IdentityError::Crypto("a new identity".into(), error))?;
    accounts.save(&account)?;
    // Written last: an ID without its files would stop the next start.
    folder::write_bytes(id_file, format!("{}\n", account.id()).as_bytes(), false)?;
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_is_made_once_and_found_again() {
        let place = tempfile::tempdir().unwrap();
        let mut config = Config::in_folder(place.path());
        let profile = Map::from_iter([("name".to_owned(), "Test".into())]);
        let first = load_or_create(&config, &profile, 1e9).unwrap();
        let again = load_or_create(&config, &profile, 1e9 + 5.0).unwrap();
        assert_eq!(first.id(), again.id());
        assert_eq!(again.document().and_then(|d| d.time()), Some(1e9 + 5.0));
        config.station.id = Some(first.id().as_str().to_owned());
        let named = load_or_create(&config, &profile, 1e9 + 6.0).unwrap();
        assert_eq!(named.id(), first.id());
        let secret = place.path().join("private").join(first.id().address()).join("secret.js");
        let mode = fs::metadata(&secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(&secret).unwrap();
        let error = load_or_create(&config, &profile, 1e9 + 7.0).unwrap_err();
        assert!(error.to_string().contains("secret.js"), "{error}");
    }
}
