//! `completions` and `man`: what other programs make of the command line.

use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::Shell;

use super::failure::Failure;
use super::{made, output};

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
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut command, "keyhearth", &mut text);
                output::bytes(&text)
            }
            Self::Man { dir: None } => {
                let mut text = Vec::new();
                clap_mangen::Man::new(command).render(&mut text)?;
                output::bytes(&text)
            }
            Self::Man { dir: Some(dir) } => {
                made::folder(&dir)?;
                clap_mangen::generate_to(command, &dir).map_err(|error| Failure::at(dir.display(), &error))
            }
        }
    }
}
