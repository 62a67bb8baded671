//! The C header of `libattestation_agent`: written anew, or with `--check` compared with the one that is kept.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config = cbindgen::Config::from_file(library.join("cbindgen.toml"))?;
    let mut generated = Vec::new();
    cbindgen::generate_with_config(&library, config)?.write(&mut generated);
    let kept = library.join("include/attestation_agent.h");
    if !std::env::args().any(|argument| argument == "--check") {
        std::fs::write(kept, generated)?;
    } else if std::fs::read(&kept)? != generated {
        eprintln!("{} is not what the code says; run this program without --check", kept.display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
