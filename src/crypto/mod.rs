//! Keys and ciphers, and what they prove. Never logs a secret; knows no session.

pub mod aes;
pub mod ecc;
pub mod error;
pub mod identity;
pub mod key;
pub mod pem;
pub mod rsa;
pub mod seal;
pub mod sign;
