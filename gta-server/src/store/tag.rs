//! Authentication of rows: HMAC-SHA-256 over fields, each with its length, so that no two rows have one encoding.

use aws_lc_rs::hmac;

/// A field of a row.
pub enum Field<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// The fields in the order of their columns. The first says what the row is, so that no row passes for one of another
/// table.
pub fn tag(key: &hmac::Key, fields: &[Field<'_>]) -> Vec<u8> {
    let mut mac = hmac::Context::with_key(key);
    feed(&mut mac, fields);
    mac.sign().as_ref().to_vec()
}

/// Whether `tag` is that of the fields, in constant time.
pub fn is_tag(key: &hmac::Key, fields: &[Field<'_>], expected: &[u8]) -> bool {
    let mut bytes = Vec::new();
    encode(fields, |part| bytes.extend_from_slice(part));
    hmac::verify(key, &bytes, expected).is_ok()
}

fn feed(mac: &mut hmac::Context, fields: &[Field<'_>]) {
    encode(fields, |part| mac.update(part));
}

fn encode(fields: &[Field<'_>], mut put: impl FnMut(&[u8])) {
    for field in fields {
        let number;
        let (kind, bytes) = match field {
            Field::Text(text) => (b't', text.as_bytes()),
            Field::Bytes(bytes) => (b'b', *bytes),
            Field::Number(value) => {
                number = value.to_be_bytes();
                (b'n', &number[..])
            }
        };
        put(&[kind]);
        put(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        put(bytes);
    }
}
