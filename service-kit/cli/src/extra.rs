//! Completions and manual pages.

use clap::{CommandFactory, Subcommand};

/// Subcommands that every program has.
#[derive(Clone, Debug, Subcommand)]
pub enum Extra {
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
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
            Self::Completions { shell } => {
                let name = command.get_name().to_owned();
                clap_complete::generate(*shell, &mut command, name, &mut std::io::stdout());
                Ok(())
            }
            Self::Man => clap_mangen::Man::new(command).render(&mut std::io::stdout()),
        }
    }
}
