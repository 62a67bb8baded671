//! secGear's command line: flags without a subcommand, which mean our `daemon`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::cli::DaemonArgs;

/// Options as secGear's agent has them; with a subcommand there are more.
#[derive(Parser)]
#[command(name = "attestation-agent", version)]
struct SecGear {
    /// Where to listen
    #[arg(short = 's', long, value_name = "ADDRESS:PORT")]
    socketaddr: Option<String>,
    /// The attestation service
    #[arg(short = 'u', long, value_name = "HOST:PORT")]
    serverurl: Option<String>,
    /// Configuration file, ours or secGear's
    #[arg(short = 'c', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the service is spoken to; http reaches this guest's own addresses only
    #[arg(short = 'p', long, value_enum, requires = "serverurl")]
    protocol: Option<Protocol>,
    /// PEM file with the service's certificate, or that of its CA
    #[arg(short = 't', long = "cert_root", value_name = "FILE")]
    cert_root: Option<PathBuf>,
    /// Keep tokens at hand for the applications of the configuration file
    #[arg(long = "enable_active_attestation")]
    enable_active_attestation: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Http,
    Https,
}

/// Flags of secGear's agent that stand first on a command line of its kind; ours begin with a subcommand, or `--log`.
const FIRST: [&str; 11] = [
    "-s",
    "--socketaddr",
    "-u",
    "--serverurl",
    "-c",
    "--config",
    "-p",
    "--protocol",
    "-t",
    "--cert_root",
    "--enable_active_attestation",
];

/// What secGear's command line says, if it is one.
///
/// # Errors
/// Clap's, with its own text for the user.
pub fn parse(arguments: &[OsString]) -> Option<Result<DaemonArgs, clap::Error>> {
    let first = arguments.get(1)?.to_str()?;
    let name = first.split_once('=').map_or(first, |(name, _)| name);
    FIRST.contains(&name).then(|| SecGear::try_parse_from(arguments).and_then(SecGear::daemon))
}

impl SecGear {
    fn daemon(self) -> Result<DaemonArgs, clap::Error> {
        let scheme = match self.protocol {
            Some(Protocol::Https) => "https",
            Some(Protocol::Http) => "http",
            None if self.cert_root.is_some() => "https",
            None => "http",
        };
        let listen = self.socketaddr.map(|address| address.parse()).transpose().map_err(|problem| {
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("--socketaddr: {problem}\n"))
        })?;
        let mut daemon = DaemonArgs::default();
        daemon.listen.extend(listen);
        daemon.active_attestation = self.enable_active_attestation;
        daemon.common.config = self.config;
        daemon.common.service = self.serverurl.map(|address| format!("{scheme}://{address}"));
        daemon.common.service_cert = self.cert_root;
        Ok(daemon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(arguments: &[&str]) -> DaemonArgs {
        let arguments: Vec<OsString> = ["agent"].iter().chain(arguments).map(Into::into).collect();
        parse(&arguments).expect("secGear's").unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn secgears_flags_mean_a_daemon() {
        let all = [
            "-s",
            "127.0.0.1:9",
            "-u",
            "as.example:8443",
            "-p",
            "https",
            "-t",
            "/as.pem",
            "-c",
            "/agent.conf",
        ];
        let args = daemon(&all);
        assert_eq!(args.listen, ["127.0.0.1:9".parse().unwrap()]);
        assert_eq!(args.common.service.as_deref(), Some("https://as.example:8443"));
        assert_eq!(args.common.service_cert, Some("/as.pem".into()));
        assert_eq!(args.common.config, Some("/agent.conf".into()));
        assert!(!args.active_attestation);
        let args = daemon(&["--serverurl=127.0.0.1:8080", "--enable_active_attestation"]);
        assert_eq!(args.common.service.as_deref(), Some("http://127.0.0.1:8080"));
        assert!(args.active_attestation && args.listen.is_empty());
        assert_eq!(daemon(&["-t", "/a", "-u", "h:1"]).common.service.as_deref(), Some("https://h:1"));
    }

    #[test]
    fn other_command_lines_are_not_secgears() {
        for arguments in
            [&[][..], &["fetch"], &["daemon", "-s", "x"], &["--help"], &["--log", "debug", "daemon"], &["-x"]]
        {
            let arguments: Vec<OsString> = ["agent"].iter().chain(arguments).map(Into::into).collect();
            assert!(parse(&arguments).is_none(), "{arguments:?}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        for (arguments, named) in
            [(["-s", "nowhere"], "--socketaddr"), (["-p", "ftp"], "ftp"), (["-p", "https"], "serverurl")]
        {
            let arguments: Vec<OsString> = ["agent"].iter().chain(&arguments).map(Into::into).collect();
            let error = parse(&arguments).expect("secGear's").err().expect("wrong");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
