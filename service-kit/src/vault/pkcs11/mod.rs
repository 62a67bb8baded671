//! A master key in a token that speaks PKCS #11 (OASIS, version 2.40): AES-256, which wraps with AES-GCM inside the token and
//! never leaves it.

mod uri;

use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::{AuthPin, Ulong};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use self::uri::{KeyUri, KeyUriError};
use super::{KEY_LEN, MasterKey, NONCE_LEN, TAG_LEN, VaultError, Wrapped, content_key, identifier};
use crate::private_file::{self, PrivateFileError};

/// What the key's identifier is made from: its ciphertext of this.
const CHECKED: &[u8; 16] = b"redoubt key name";

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// No library can be loaded.
    #[error(
        "this program is linked statically, so that it cannot load {0}: build it for a target with glibc, such as \
         `cargo xtask dist --target aarch64-unknown-linux-gnu`"
    )]
    Static(String),
    /// The library does not load.
    #[error("cannot load the PKCS #11 module {module}: {source}")]
    Module {
        /// The library.
        module: String,
        /// Why.
        source: Error,
    },
    /// The PIN cannot be read.
    #[error("pin-source")]
    Pin(#[from] PrivateFileError),
    /// No token has the name.
    #[error(
        "{count} tokens of the PKCS #11 module are what {uri} names, expected one; {module} has: {present}"
    )]
    Token {
        /// What names it.
        uri: String,
        /// How many there are.
        count: usize,
        /// The library.
        module: String,
        /// The labels of all tokens.
        present: String,
    },
    /// The token does not accept the PIN.
    #[error(
        "the token does not accept the PIN in {file}: {source}; after some more tries it may lock itself"
    )]
    Login {
        /// The file.
        file: String,
        /// Why.
        source: Error,
    },
    /// No key, or several.
    #[error(
        "{count} secret keys of the token are what {uri} names, expected one; make it with the token's own tool: AES-256, for \
         encryption and decryption, sensitive and not extractable"
    )]
    Object {
        /// What names it.
        uri: String,
        /// How many there are.
        count: usize,
    },
    /// A key that is not fit to be a master key.
    #[error("the key that {uri} names cannot be a master key: {reason}")]
    Unfit {
        /// What names it.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token does not do what it is asked.
    #[error("the token failed: {0}")]
    Failed(#[from] Error),
}

/// A master key in a token.
pub struct TokenKey {
    id: String,
    uri: KeyUri,
    module: Pkcs11,
    state: Mutex<State>,
}

enum State {
    /// Ready for use.
    In(Login),
    /// It failed: the next use logs in anew, because a token may have been away.
    Away,
    /// It did not accept the PIN. It is not asked again before the program starts anew: after some tries tokens lock
    /// themselves, and a service makes more than that in a second.
    Refused(String),
}

struct Login {
    session: Session,
    key: ObjectHandle,
}

impl TokenKey {
    /// Finds the key and tries it.
    ///
    /// # Errors
    /// [`TokenKeyError`] says what is missing, and what to do.
    pub fn open(uri: KeyUri) -> Result<Self, TokenKeyError> {
        let module = load(&uri)?;
        let login = log_in(&module, &uri)?;
        let id = login.id()?.ok_or_else(|| TokenKeyError::Unfit {
            uri: uri.to_string(),
            reason: "it does not decrypt what it encrypts",
        })?;
        Ok(Self { id, uri, module, state: Mutex::new(State::In(login)) })
    }

    fn with<T>(&self, work: impl FnOnce(&Login) -> Result<T, Error>) -> Result<T, VaultError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let login = match std::mem::replace(&mut *state, State::Away) {
            State::In(login) => login,
            State::Away => self.log_in_again().map_err(|error| {
                if matches!(error, TokenKeyError::Login { .. }) {
                    *state = State::Refused(error.to_string());
                }
                VaultError::device(error)
            })?,
            State::Refused(why) => {
                *state = State::Refused(why.clone());
                return Err(VaultError::device(why));
            }
        };
        let done = work(&login).map_err(VaultError::device)?;
        *state = State::In(login);
        Ok(done)
    }

    /// Another key under the same name is not this one: what it wrapped could not be found again.
    fn log_in_again(&self) -> Result<Login, TokenKeyError> {
        let login = log_in(&self.module, &self.uri)?;
        if login.id()?.as_ref() == Some(&self.id) {
            return Ok(login);
        }
        Err(TokenKeyError::Unfit {
            uri: self.uri.to_string(),
            reason: "it is not the key that it was before",
        })
    }
}

impl MasterKey for TokenKey {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn wrap(
        &self,
        key: &[u8; KEY_LEN],
        context: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Wrapped, VaultError> {
        let sealed = self.with(|login| login.encrypt(nonce, context, key))?;
        if sealed.len() != KEY_LEN + TAG_LEN {
            return Err(VaultError::device("its AES-GCM does not append a tag of 16 bytes"));
        }
        Ok(Wrapped { key: [&nonce[..], &sealed].concat(), by: self.id() })
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, VaultError> {
        let (nonce, sealed) = wrapped.key.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Altered)?;
        if sealed.len() != KEY_LEN + TAG_LEN {
            return Err(VaultError::Altered);
        }
        // Tokens do not agree on what a wrong tag is called. One that still works has found one.
        let key = self.with(|login| match login.decrypt(*nonce, context, sealed) {
            Err(_) if login.id().is_ok_and(|id| id.as_ref() == Some(&self.id)) => Ok(None),
            opened => opened.map(|key| Some(Zeroizing::new(key))),
        })?;
        content_key(&key.ok_or(VaultError::Altered)?)
    }
}

impl Login {
    /// The key's identifier; `None` if the key does not decrypt what it encrypts.
    fn id(&self) -> Result<Option<String>, Error> {
        // A nonce that random ones are not, for one message that is always the same.
        const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];
        let sealed = self.encrypt(NONCE, &[], CHECKED)?;
        let opened = self.decrypt(NONCE, &[], &sealed)?;
        Ok((opened == CHECKED).then(|| identifier("pkcs11", &Sha256::digest(&sealed))))
    }

    fn encrypt(&self, mut nonce: [u8; NONCE_LEN], context: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        let gcm = Mechanism::AesGcm(GcmParams::new(&mut nonce, context, tag_bits())?);
        self.session.encrypt(&gcm, self.key, plain)
    }

    fn decrypt(&self, mut nonce: [u8; NONCE_LEN], context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let gcm = Mechanism::AesGcm(GcmParams::new(&mut nonce, context, tag_bits())?);
        self.session.decrypt(&gcm, self.key, sealed)
    }
}

const fn tag_bits() -> Ulong {
    Ulong::new(128)
}

fn load(uri: &KeyUri) -> Result<Pkcs11, TokenKeyError> {
    let name = uri.module.display().to_string();
    if cfg!(target_feature = "crt-static") {
        return Err(TokenKeyError::Static(name));
    }
    let failed = |source| TokenKeyError::Module { module: name.clone(), source };
    let module = Pkcs11::new(&uri.module).map_err(failed)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // By another key of this process.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(source) => Err(failed(source)),
    }
}

fn log_in(module: &Pkcs11, uri: &KeyUri) -> Result<Login, TokenKeyError> {
    let session = module.open_ro_session(find_token(module, uri)?)?;
    let pin = private_file::read(&uri.pin)?;
    let pin = AuthPin::from(pin.trim_end_matches(['\r', '\n']));
    match session.login(UserType::User, Some(&pin)) {
        // A process logs in once for all its sessions.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(source) => {
            return Err(TokenKeyError::Login { file: uri.pin.display().to_string(), source });
        }
    }
    let key = find_key(&session, uri)?;
    Ok(Login { session, key })
}

fn find_token(module: &Pkcs11, uri: &KeyUri) -> Result<Slot, TokenKeyError> {
    let mut found = Vec::new();
    let mut labels = Vec::new();
    for slot in module.get_slots_with_initialized_token()? {
        let token = module.get_token_info(slot)?;
        let is = |expected: &Option<String>, actual: &str| {
            expected.as_deref().is_none_or(|expected| expected == actual.trim_end())
        };
        if is(&uri.token, token.label()) && is(&uri.serial, token.serial_number()) {
            found.push(slot);
        }
        labels.push(format!("{:?}", token.label().trim_end()));
    }
    match found[..] {
        [slot] => Ok(slot),
        _ => Err(TokenKeyError::Token {
            uri: uri.to_string(),
            count: found.len(),
            module: uri.module.display().to_string(),
            present: labels.join(", "),
        }),
    }
}

fn find_key(session: &Session, uri: &KeyUri) -> Result<ObjectHandle, TokenKeyError> {
    let mut named = vec![Attribute::Class(ObjectClass::SECRET_KEY)];
    named.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    named.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let found = session.find_objects(&named)?;
    let [key] = found[..] else {
        return Err(TokenKeyError::Object { uri: uri.to_string(), count: found.len() });
    };
    let asked = [
        AttributeType::KeyType,
        AttributeType::ValueLen,
        AttributeType::Sensitive,
        AttributeType::Extractable,
    ];
    let has = session.get_attributes(key, &asked)?;
    let length = Ulong::new(KEY_LEN as u64);
    for (demanded, reason) in [
        (Attribute::KeyType(KeyType::AES), "it is not a key for AES"),
        (Attribute::ValueLen(length), "it has not 256 bits"),
        (Attribute::Sensitive(true), "it is not sensitive, so whoever has the PIN can read it"),
        (Attribute::Extractable(false), "it is extractable, so whoever has the PIN can take it away"),
    ] {
        if !has.contains(&demanded) {
            return Err(TokenKeyError::Unfit { uri: uri.to_string(), reason });
        }
    }
    Ok(key)
}
