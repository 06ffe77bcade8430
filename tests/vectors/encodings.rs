//! Digests, bases and transportable data.

use dim::base::digest::{keccak256, md5, ripemd160, sha1, sha256};
use dim::base::encode::{
    base58_decode, base58_encode, base58check_decode, base58check_encode, base64_decode,
    base64_encode, checksum, hash160, hex_decode, hex_encode, ted_decode,
};
use dim::proto::address::{Address, eip55};
use serde_json::Value;

use crate::set::{Outcome, bytes, exact, judge, number, same, text, wrong};

pub(crate) fn digest(vector: &Value) -> Outcome {
    match text(vector, "kind") {
        "digest" => {
            let input = bytes(vector, "input_hex");
            for (name, digest) in [
                ("sha256", sha256(&input).to_vec()),
                ("sha1", sha1(&input).to_vec()),
                ("md5", md5(&input).to_vec()),
                ("ripemd160", ripemd160(&input).to_vec()),
                ("keccak256", keccak256(&input).to_vec()),
                ("hash160", hash160(&input).to_vec()),
                ("double_sha256_first4", checksum(&input).to_vec()),
            ] {
                same(name, hex_encode(&digest).as_str(), text(vector, name))?;
            }
            exact()
        }
        "base58" => {
            let (input, output) = (bytes(vector, "input_hex"), text(vector, "base58"));
            same("encoded", base58_encode(&input).as_str(), output)?;
            same("decoded", base58_decode(output), Ok(input))?;
            exact()
        }
        "base58check" => {
            let network = u8::try_from(number(vector, "network")).unwrap();
            let digest: [u8; 20] = bytes(vector, "hash160").try_into().unwrap();
            let address = text(vector, "address");
            same("encoded", base58check_encode(network, &digest).as_str(), address)?;
            same("decoded", base58check_decode(address), Ok((network, digest)))?;
            same("network", Address::parse(address).map(|read| read.network()), Ok(network))?;
            exact()
        }
        "eip55" => {
            let digest: [u8; 20] = bytes(vector, "hex").try_into().unwrap();
            same("address", eip55(&digest).as_str(), text(vector, "address"))?;
            exact()
        }
        "hex_decode" => decoded(vector, hex_decode(text(vector, "text")).ok()),
        "base64_decode" => {
            let output = base64_decode(text(vector, "text")).ok();
            if let Some(output) = &output {
                same("round trip", base64_decode(&base64_encode(output)).as_ref(), Ok(output))?;
            }
            decoded(vector, output)
        }
        other => Err(wrong("a known kind", other)),
    }
}

pub(crate) fn transportable(vector: &Value) -> Outcome {
    decoded(vector, ted_decode(&vector["input"]).ok())
}

/// Holds decoded bytes to `output_hex`.
fn decoded(vector: &Value, output: Option<Vec<u8>>) -> Outcome {
    let answer = judge(vector, output.is_some())?;
    if let (Some(output), "accept") = (output, text(vector, "expect")) {
        same("output", hex_encode(&output).as_str(), text(vector, "output_hex"))?;
    }
    Ok(answer)
}
