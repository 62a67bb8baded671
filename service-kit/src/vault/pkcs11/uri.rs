//! Where a key is, as a PKCS #11 URI (RFC 7512) says it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

const SCHEME: &str = "pkcs11:";

/// Where a secret key is: `pkcs11:token=NAME;object=LABEL?module-path=FILE&pin-source=file:FILE`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyUri {
    text: String,
    /// Label of the token.
    pub token: Option<String>,
    /// Serial number of the token.
    pub serial: Option<String>,
    /// Label of the key.
    pub object: Option<String>,
    /// Identifier of the key.
    pub id: Option<Vec<u8>>,
    /// The token's library.
    pub module: PathBuf,
    /// File with the PIN.
    pub pin: PathBuf,
}

/// Text that does not say where a key is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; expected pkcs11:token=NAME;object=LABEL?module-path=FILE&pin-source=file:FILE, with serial and id beside or in \
     place of token and object"
)]
pub struct KeyUriError(String);

impl KeyUri {
    /// Whether `text` is meant to be such a URI.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
    }
}

impl FromStr for KeyUri {
    type Err = KeyUriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| KeyUriError(reason.to_owned());
        if !Self::is_meant(text) {
            return Err(error("not a PKCS #11 URI"));
        }
        let rest = text.get(SCHEME.len()..).unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut token, mut serial, mut object, mut id, mut module, mut pin) =
            (None, None, None, None, None, None);
        let attributes = path.split(';').map(|it| (it, true)).chain(query.split('&').map(|it| (it, false)));
        for (attribute, in_path) in attributes.filter(|(attribute, _)| !attribute.is_empty()) {
            let (name, value) =
                attribute.split_once('=').ok_or_else(|| error("an attribute has no value"))?;
            let value: Vec<u8> = percent_decode_str(value).collect();
            let slot = match (in_path, name) {
                (true, "token") => &mut token,
                (true, "serial") => &mut serial,
                (true, "object") => &mut object,
                (true, "id") => &mut id,
                (false, "module-path") => &mut module,
                (false, "pin-source") => &mut pin,
                (true, "type") if value == b"secret-key" => continue,
                (false, "pin-value") => {
                    return Err(error(
                        "pin-value would show the PIN to every user of the machine: write it to a file with mode 0600 and \
                         give pin-source",
                    ));
                }
                // To leave out what narrows the choice could choose another key.
                _ => return Err(KeyUriError(format!("the attribute {name:?} is not supported here"))),
            };
            if slot.replace(value).is_some() {
                return Err(KeyUriError(format!("{name} is given twice")));
            }
        }
        let utf8 = |value: Option<Vec<u8>>| {
            value.map(String::from_utf8).transpose().map_err(|_| error("an attribute is not UTF-8"))
        };
        let (token, serial, object) = (utf8(token)?, utf8(serial)?, utf8(object)?);
        if token.is_none() && serial.is_none() {
            return Err(error("it names no token"));
        }
        if object.is_none() && id.is_none() {
            return Err(error("it names no object"));
        }
        let module = utf8(module)?.ok_or_else(|| error("module-path, the token's library, is missing"))?;
        let pin = utf8(pin)?.ok_or_else(|| error("pin-source, a file with the PIN, is missing"))?;
        let (module, pin) = (PathBuf::from(module), PathBuf::from(pin.strip_prefix("file:").unwrap_or(&pin)));
        // A library that is looked up elsewhere could be anybody's; a PIN from a command is not supported.
        if !module.is_absolute() || !pin.is_absolute() {
            return Err(error("module-path and pin-source must be absolute paths of files"));
        }
        Ok(Self { text: text.to_owned(), token, serial, object, id, module, pin })
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyUri({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "?module-path=/usr/lib/p11.so&pin-source=file:/etc/pin";

    #[test]
    fn reads_what_names_a_key() {
        let text =
            format!("pkcs11:token=my%20token;serial=12;object=master;id=%01%ff;type=secret-key{QUERY}");
        let uri: KeyUri = text.parse().unwrap();
        assert_eq!(uri.token.as_deref(), Some("my token"));
        assert_eq!(uri.serial.as_deref(), Some("12"));
        assert_eq!(uri.object.as_deref(), Some("master"));
        assert_eq!(uri.id, Some(vec![1, 0xff]));
        assert_eq!((uri.module, uri.pin), ("/usr/lib/p11.so".into(), "/etc/pin".into()));
        let plain: KeyUri =
            "PKCS11:serial=1;id=%01?pin-source=/etc/pin&module-path=/usr/lib/p11.so".parse().unwrap();
        assert_eq!(plain.pin, PathBuf::from("/etc/pin"));
    }

    #[test]
    fn refuses_what_names_no_key_or_gives_a_pin_away() {
        for (text, reason) in [
            ("master.key".to_owned(), "not a PKCS #11 URI"),
            (format!("pkcs11:object=a{QUERY}"), "names no token"),
            (format!("pkcs11:token=a{QUERY}"), "names no object"),
            ("pkcs11:token=a;object=b?module-path=/m".to_owned(), "pin-source"),
            ("pkcs11:token=a;object=b?pin-source=/m".to_owned(), "module-path"),
            (format!("pkcs11:token=a;object=b{QUERY}&pin-value=1234"), "pin-value would show"),
            (format!("pkcs11:token=a;token=c;object=b{QUERY}"), "given twice"),
            (format!("pkcs11:token=a;object=b;slot-id=1{QUERY}"), "\"slot-id\" is not supported"),
            (format!("pkcs11:token=a;object=b;type=private{QUERY}"), "\"type\" is not supported"),
            (format!("pkcs11:token=a;object=b;module-path=/m{QUERY}"), "\"module-path\" is not supported"),
            (format!("pkcs11:token;object=b{QUERY}"), "no value"),
            (format!("pkcs11:token=%ff;object=b{QUERY}"), "not UTF-8"),
            ("pkcs11:token=a;object=b?module-path=p11.so&pin-source=/m".to_owned(), "absolute"),
            ("pkcs11:token=a;object=b?module-path=/m&pin-source=|cat".to_owned(), "absolute"),
        ] {
            let error = text.parse::<KeyUri>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("1234"), "{error}");
        }
    }
}
