/// Why a peer is not believed, or an identity cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate cannot be read.
    #[error("the peer's certificate cannot be read: {0}")]
    Certificate(String),
    /// The certificate is not valid now, or not signed with its own key.
    #[error("the peer's certificate does not hold: {0}")]
    SelfSignature(String),
    /// More or fewer certificates than one.
    #[error("the peer sent {found} certificates besides its own; an attested one stands alone")]
    Chain {
        /// How many.
        found: usize,
    },
    /// No evidence and no token, or several.
    #[error(
        "the certificate has {found} extensions with evidence (1.3.6.1.4.1.2011.2.8) or a token \
         (1.3.6.1.4.1.2011.2.10); exactly one was expected"
    )]
    Extensions {
        /// How many.
        found: usize,
    },
    /// The extension is not the JSON that it should be.
    #[error("the extension with evidence or token is malformed: {0}")]
    Extension(&'static str),
    /// A flow that is not accepted here.
    #[error("the certificate carries {found}, and this end accepts {accepted} only")]
    Flow {
        /// What the certificate carries.
        found: &'static str,
        /// What is accepted.
        accepted: &'static str,
    },
    /// The challenge is not for the certificate's key.
    #[error("the challenge is not for this certificate's key: what was attested is another key")]
    KeyNotBound,
    /// The challenge does not begin with this verifier's nonce.
    #[error(
        "the challenge does not answer this verifier's nonce: the certificate is from another time or for another"
    )]
    NonceMismatch,
    /// The token does not hold.
    #[error("the peer's token does not hold")]
    Token(#[from] jose::TokenError),
    /// The claims are about another challenge than the certificate's, or the verdict is not good.
    #[error("the peer has not proven what it must")]
    Claims(#[from] jose::ClaimsError),
    /// The token is bound to another key.
    #[error("the token is bound (cnf) to another key than the certificate's")]
    ForeignKey,
    /// The claims are of a kind of peer that is not wanted.
    #[error("the peer is not one that is wanted here: {0}")]
    Unwanted(String),
    /// The evidence was refused.
    #[error("the peer's evidence was refused")]
    Appraisal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This end cannot attest itself.
    #[error("this end cannot prove itself")]
    Attest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What attests this end is too long for a certificate.
    #[error(
        "what attests this end has {found} bytes, and a handshake has room for {limit}: use the passport flow, or \
         evidence without logs"
    )]
    TooLong {
        /// Its length, in bytes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// No key or certificate could be made.
    #[error("cannot make a key or certificate")]
    Generate(#[from] rcgen::Error),
    /// The handshake failed.
    #[error("the TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}
