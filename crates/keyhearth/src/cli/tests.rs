use std::collections::BTreeSet;

use super::*;

fn find<'a>(command: &'a Command, words: &[&str]) -> Option<&'a Command> {
    match words {
        [] => Some(command),
        [word, rest @ ..] => find(command.find_subcommand(word)?, rest),
    }
}

#[test]
fn the_command_is_well_formed() {
    command().debug_assert();
}

#[test]
fn every_request_has_its_command_and_its_summary() {
    let command = command();
    for operation in Operation::ALL {
        let info = operation.info();
        let (words, flags): (Vec<_>, Vec<_>) =
            info.command.split(' ').partition(|word| !word.starts_with('-'));
        let verb = find(&command, &words).unwrap_or_else(|| panic!("no command `{}`", info.command));
        for flag in &flags {
            assert!(
                verb.get_arguments().any(|argument| argument.get_long() == flag.strip_prefix("--")),
                "{flag}"
            );
        }
        if operation.is_request() && flags.is_empty() {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert_eq!(about, info.summary.trim_end_matches('.'), "{}", info.command);
        }
    }
}

/// All commands at the ends of the tree, as the words that call them.
fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() { leaves(verb, &path, found) } else { found.push((path, verb.clone())) }
    }
}

#[test]
fn every_command_says_what_it_does() {
    let mut found = Vec::new();
    leaves(&command(), "", &mut found);
    assert!(found.len() > 60);
    for (path, verb) in &found {
        assert!(verb.get_about().is_some(), "{path} has no summary");
        for argument in verb.get_arguments().filter(|argument| argument.get_id() != "help") {
            assert!(argument.get_help().is_some(), "{path} does not explain {}", argument.get_id());
        }
    }
}

#[test]
fn no_argument_takes_a_secret() {
    let secret: BTreeSet<_> = ["passphrase", "secret", "share", "plaintext", "material", "password"].into();
    let mut found = Vec::new();
    leaves(&command(), "", &mut found);
    for (path, verb) in &found {
        for argument in verb.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            assert!(
                !secret.contains(argument.get_id().as_str()),
                "{path} takes {} as text",
                argument.get_id()
            );
        }
    }
}

#[test]
fn what_is_misspelled_is_refused_with_the_rule() {
    let refused = |line: &str| {
        let words = std::iter::once("keyhearth").chain(line.split(' '));
        match command().try_get_matches_from(words) {
            Ok(_) => panic!("{line} is accepted"),
            Err(error) => error.to_string(),
        }
    };
    assert!(refused("key create aes-257").contains("aes-256"));
    assert!(refused("tenant disable nobody").contains("UUID"));
    assert!(refused("key schedule-destroy k --days 3").contains("from 7 to 30"));
    assert!(refused("encrypt k --context novalue").contains("NAME=VALUE"));
    assert!(refused("seal rekey --shares 5").contains("--threshold"));
    assert!(refused("key destroy k --version 1").contains("--confirm"));
}
