//! Completions and manual pages.

use std::io::{Write as _, stdout};

use clap::{Command, CommandFactory, Subcommand};
use clap_complete::Shell;

/// Subcommands that every program has.
#[derive(Clone, Debug, Subcommand)]
pub enum Extra {
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

impl Extra {
    /// Prints what was asked for, for the command line `C`.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn print<C: CommandFactory>(&self) -> std::io::Result<()> {
        let mut command = C::command();
        match self {
            Self::Completions { shell } => stdout().write_all(&completions(*shell, &mut command)),
            Self::Man => clap_mangen::Man::new(command).render(&mut stdout()),
        }
    }
}

fn completions(shell: Shell, command: &mut Command) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, &name, &mut script);
    if shell == Shell::Bash && name.contains('-') {
        // clap_complete 4.6 takes a dash in the program's name for the begin of a subcommand where it lists what these have,
        // and not where it finds out which one is meant.
        let (wrong, right) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
        return String::from_utf8_lossy(&script).replace(&wrong, &right).into_bytes();
    }
    script
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    /// What bash offers as the word after these.
    fn offered(words: &[&str]) -> Vec<String> {
        let add =
            Command::new("add-key").arg(Arg::new("role").value_parser(["admin", "agent"]).required(true));
        let mut command = Command::new("gta-server").subcommand(add.arg(Arg::new("until").long("until")));
        let script = String::from_utf8(completions(Shell::Bash, &mut command)).unwrap();
        let last = words.last().unwrap();
        let ask = format!(
            "COMP_WORDS=(gta-server {} '')\nCOMP_CWORD={}\n_gta__server gta-server '' {last}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() + 1,
        );
        let output = std::process::Command::new("bash")
            .args(["--norc", "-c", &format!("{script}\n{ask}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_offers_what_a_subcommand_has() {
        let offered = offered(&["add-key"]);
        for wanted in ["--until", "admin", "agent"] {
            assert!(offered.iter().any(|word| word == wanted), "{wanted}: {offered:?}");
        }
    }
}
