//! `completions` and `man`: what other programs make of the command line.

use std::io;
use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::Shell;

use super::failure::Failure;
use super::file;

#[derive(Subcommand)]
pub enum Verb {
    /// Prints completions for a shell
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page, or writes the pages of all commands
    Man {
        /// Folder for the pages; made if it is not there.
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
}

impl Verb {
    pub fn run(self) -> Result<(), Failure> {
        let mut command = super::command();
        match self {
            Self::Completions { shell } => {
                clap_complete::generate(shell, &mut command, "keyhearth", &mut io::stdout());
                Ok(())
            }
            Self::Man { dir: None } => Ok(clap_mangen::Man::new(command).render(&mut io::stdout())?),
            Self::Man { dir: Some(dir) } => {
                file::folder(&dir)?;
                clap_mangen::generate_to(command, &dir).map_err(|error| Failure::at(dir.display(), &error))
            }
        }
    }
}
