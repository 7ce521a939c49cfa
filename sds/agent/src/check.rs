//! What a well-formed configuration names, looked at without changing anything and without asking the CA; for `check`.

use std::error::Error;

use signet_runtime::output::error_chain;

use crate::ca::channel::read_roots;
use crate::ca::token;
use crate::config::Config;
use crate::socket::unix::{self, Access};

/// What a check says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// What is wrong.
    pub problems: Vec<String>,
    /// What nobody has looked at, so that it may be wrong.
    pub unseen: Vec<String>,
}

/// Looks at everything.
pub(crate) async fn check(config: &Config) -> Checked {
    let mut problems = Vec::new();
    note(&mut problems, "ca.root_file", read_roots(&config.ca.root_file).await.err());
    match token::read(&config.token_file).await {
        Err(error) => note(&mut problems, "token_file", Some(error)),
        Ok(token) if config.identity.is_none() => {
            note(&mut problems, "token_file", token::subject(&token, &config.trust_domain).err());
        }
        Ok(_) => {}
    }
    let access = Access { mode: config.sds.mode, user: config.sds.user.clone(), group: config.sds.group.clone() };
    note(&mut problems, "sds", unix::check(&config.sds.socket, &access).await.err());
    let unseen = vec![
        format!("whether the CA answers at {}, and takes the token", config.ca.address),
        "whether the port of ops is free".to_owned(),
    ];
    Checked { problems, unseen }
}

fn note(problems: &mut Vec<String>, field: &str, error: Option<impl Error>) {
    problems.extend(error.map(|error| format!("{field}: {}", error_chain(&error))));
}
