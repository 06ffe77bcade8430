//! Every bound on what a stranger may make us hold or compute, with its reason.

/// A meta as JSON text: two keys of 4096 bits take a tenth of it.
pub const META_BYTES_MAX: usize = 16 * 1024;

/// A document as JSON text; pictures in it have to be small ones, or links.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// Shortest text of an ID, in characters: the reference refuses anything below.
pub const ID_CHARS_MIN: usize = 4;

/// Longest text of an ID, in characters: the reference refuses anything above.
pub const ID_CHARS_MAX: usize = 128;

/// Longest text of an ID, in bytes: every character may take four in UTF-8.
pub const ID_BYTES_MAX: usize = 4 * ID_CHARS_MAX;

/// Deepest nesting of a JSON text. The deepest real message has six levels; the walk over a
/// text recurses once a level, so this also bounds the stack.
pub const JSON_DEPTH_MAX: usize = 64;

/// Most members of one JSON object. A group message carries one key per terminal of each member.
pub const JSON_MEMBERS_MAX: usize = 4096;

/// Most members that are compared pairwise for duplicates; larger objects are sorted instead,
/// so that a hostile object costs no more than a sort.
pub const JSON_PAIRWISE_MAX: usize = 16;

/// Scratch that a JSON parser keeps between inputs, in bytes. One huge message must not pin its
/// size for the life of the parser; ordinary ones must not allocate.
pub const JSON_SCRATCH_BYTES_MAX: usize = 256 * 1024;

/// Longest base58 text, in characters: decoding takes quadratic time. Addresses have 35.
pub const BASE58_CHARS_MAX: usize = 256;

/// Longest PEM text of a key, in bytes. A private key of 4096 bits takes 3.3 KiB.
pub const PEM_BYTES_MAX: usize = 8 * 1024;

/// Weakest RSA modulus, in bits: what the published clients still make for their visas.
pub const RSA_BITS_MIN: usize = 1024;

/// Strongest RSA modulus, in bits: a check already costs 0.1 ms there and grows with its square.
pub const RSA_BITS_MAX: usize = 4096;

/// Smallest RSA modulus, in bits, that aws-lc accepts for signing, opening and sealing.
pub const RSA_BITS_AWS_MIN: usize = 2048;

/// Bytes of a block that the padding of RSAES-PKCS1-v1_5 takes.
pub const RSA_PADDING_BYTES: usize = 11;

/// Shortest DER signature of ECDSA, in bytes: two integers of one byte each.
pub const ECDSA_SIGNATURE_BYTES_MIN: usize = 8;

/// Longest DER signature of ECDSA on a curve of 256 bits, in bytes.
pub const ECDSA_SIGNATURE_BYTES_MAX: usize = 72;

/// Most documents kept of one ID: what the reference keeps.
pub const DOCUMENTS_MAX: usize = 8;

/// How far ahead of our clock a document may be dated, in seconds: clocks of phones are wrong,
/// but a document from the far future would block every later one.
pub const DOCUMENT_AHEAD_S_MAX: f64 = 1800.0;

const _: () = assert!(ID_BYTES_MAX <= u16::MAX as usize, "offsets inside an ID are u16");
const _: () = assert!(RSA_BITS_MIN <= RSA_BITS_AWS_MIN && RSA_BITS_AWS_MIN <= RSA_BITS_MAX);
const _: () = assert!(
    RSA_BITS_MIN / 8 > ECDSA_SIGNATURE_BYTES_MAX,
    "the length alone tells an RSA signature from an ECDSA one"
);
const _: () = assert!(PEM_BYTES_MAX > RSA_BITS_MAX, "a private key in PEM takes 0.82 bytes a bit");
