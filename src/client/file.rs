//! Files: covered with a key of their own, put somewhere by the application, and named in a
//! content that carries the address and the key.

use std::fmt;

use serde_json::{Map, Value};

use crate::base::encode::base64_encode;
use crate::crypto::aes::AesKey;
use crate::crypto::error::CryptoError;
use crate::crypto::key::CipherKey;
use crate::crypto::seal::content_key;
use crate::proto::content::{Content, kind};

/// Longest file that is fetched, in bytes, still covered.
pub const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Where an application keeps files, covered.
pub trait FileServer {
    /// Why it could not be done, in the application's words.
    type Error;

    /// Puts covered bytes where the receiver can fetch them, under a name like `name`; yields the
    /// address.
    fn upload(&mut self, covered: &[u8], name: &str) -> Result<String, Self::Error>;

    /// Fetches what was put there. Not more than [`FILE_BYTES_MAX`] should be read.
    fn download(&mut self, url: &str) -> Result<Vec<u8>, Self::Error>;
}

/// Why a file could not be sent or fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError<E> {
    /// The content names no file, or none that can be fetched. The sender's fault.
    NoFile,
    /// The file is longer than [`FILE_BYTES_MAX`]. The sender's fault.
    TooLong,
    /// It was not covered with the key of the content. The sender's fault, or the server's.
    Covered(CryptoError),
    /// The application could not put or fetch it.
    Server(E),
}

impl<E: fmt::Display> fmt::Display for FileError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("content names no file"),
            Self::TooLong => write!(f, "file is longer than {FILE_BYTES_MAX} bytes"),
            Self::Covered(error) => write!(f, "file: {error}"),
            Self::Server(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for FileError<E> {}

/// Covers `file` with a fresh key, puts it away, and yields the content that lets its reader fetch
/// it.
pub fn upload<F: FileServer>(
    server: &mut F,
    file: &[u8],
    name: &str,
) -> Result<Map<String, Value>, FileError<F::Error>> {
    let key = AesKey::generate().map_err(FileError::Covered)?;
    let (covered, iv) = key.encrypt(file).map_err(FileError::Covered)?;
    let url = server.upload(&covered, name).map_err(FileError::Server)?;
    // The vector travels inside the key: a file has no envelope to carry it.
    let mut key = key.to_map();
    key.insert("iv".into(), base64_encode(&iv).into());
    let mut content = Map::new();
    content.insert("type".into(), kind_for(name).into());
    content.insert("filename".into(), name.into());
    content.insert("URL".into(), url.into());
    content.insert("key".into(), key.clone().into());
    content.insert("password".into(), key.into());
    Ok(content)
}

/// Fetches the file that a content names, and uncovers it.
pub fn download<F: FileServer>(
    server: &mut F,
    content: &Content,
) -> Result<Vec<u8>, FileError<F::Error>> {
    let url = content.map.get("URL").and_then(Value::as_str);
    let key = content.map.get("password").or_else(|| content.map.get("key"));
    let key = key.and_then(|key| content_key(key.to_string().as_bytes()));
    let (Some(url), Some(key)) = (url, key) else {
        return Err(FileError::NoFile);
    };
    let covered = server.download(url).map_err(FileError::Server)?;
    if covered.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLong);
    }
    match key {
        CipherKey::Aes(_) => key.decrypt(&covered, None).map_err(FileError::Covered),
        CipherKey::Plain => Ok(covered),
    }
}

/// The kind of content that shows a file of this name best.
fn kind_for(name: &str) -> u32 {
    let [file, image, audio, video] = kind::FILES;
    match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("png" | "jpg" | "jpeg" | "gif" | "webp") => image,
        Some("mp3" | "m4a" | "ogg" | "wav") => audio,
        Some("mp4" | "mov" | "webm") => video,
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Shelf(Vec<Vec<u8>>);

    impl FileServer for Shelf {
        type Error = &'static str;

        fn upload(&mut self, covered: &[u8], _: &str) -> Result<String, Self::Error> {
            self.0.push(covered.to_vec());
            Ok(format!("shelf:{}", self.0.len() - 1))
        }

        fn download(&mut self, url: &str) -> Result<Vec<u8>, Self::Error> {
            let place = url.strip_prefix("shelf:").and_then(|n| n.parse::<usize>().ok());
            place.and_then(|n| self.0.get(n)).cloned().ok_or("nothing there")
        }
    }

    #[test]
    fn a_file_comes_back_and_the_shelf_never_sees_it() {
        let mut shelf = Shelf::default();
        let content = upload(&mut shelf, b"cat", "cat.PNG").unwrap();
        assert_eq!((content["type"].as_u64(), shelf.0[0].len()), (Some(18), 16));
        let content = Content::read(content.into()).unwrap();
        assert_eq!(download(&mut shelf, &content).unwrap(), b"cat");
        shelf.0[0][15] ^= 1;
        let damaged = download(&mut shelf, &content);
        assert!(damaged.is_err() || damaged.unwrap() != b"cat");
        shelf.0.clear();
        assert_eq!(download(&mut shelf, &content), Err(FileError::Server("nothing there")));
        let text = Content::read(serde_json::json!({"type": 16, "URL": "x"})).unwrap();
        assert_eq!(download(&mut shelf, &text), Err(FileError::NoFile));
    }
}
