//! `signet-ca holders list`: who has certificates, and the newest trust bundle each has received.

use clap::{Args, Subcommand};
use serde_json::json;
use signet_proto::admin::v1alpha1::{ListHoldersRequest, ListHoldersResponse};
use signet_runtime::output::{Output, Page, more};

use super::admin_client::{ANSWER, AdminArgs, failure, within};
use super::rotation_view::{holder_json, holders_table};
use super::view::View;
use super::{Failure, OutputArg, printable};

#[derive(Debug, Subcommand)]
pub(super) enum HoldersCommand {
    /// List holders of unexpired certificates with the newest trust bundle each has received
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those that have not received the newest trust bundle
    #[arg(long)]
    behind: bool,
    /// With --behind: only those that have not received this trust bundle
    #[arg(long, value_name = "SEQUENCE", requires = "behind", value_parser = clap::value_parser!(u64).range(1..))]
    sequence: Option<u64>,
    /// Only those whose newest certificate chains to this root or issuing CA (its id, or the beginning of it); an
    /// issuing CA that is gone is known as long as somebody has a certificate of it
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    authority: Option<String>,
    /// Only those whose newest certificate is accepted by nobody, because its root was taken out of the trust bundle or
    /// its issuing CA is revoked
    #[arg(long)]
    cut_off: bool,
    /// How many at most, up to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue after the previous page, as it said
    #[arg(long, value_name = "TOKEN")]
    page: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(command: &HoldersCommand) -> Result<(), Failure> {
    let HoldersCommand::List(args) = command;
    let mut client = args.admin.connect().await?;
    let request = ListHoldersRequest {
        behind: args.behind,
        behind_sequence: args.sequence.unwrap_or_default(),
        authority: args.authority.clone().unwrap_or_default(),
        limit: args.limit,
        page_token: args.page.clone().unwrap_or_default(),
        cut_off: args.cut_off,
    };
    let page = within(ANSWER, client.service.list_holders(request)).await.map_err(|status| failure(&status))?;
    let view = View::of(args.output.output);
    let lines = Page {
        entries: page.holders.iter().map(holder_json).collect(),
        next: (!page.next_page_token.is_empty()).then(|| printable(&page.next_page_token)),
    };
    let behind = args.behind.then_some(page.sequence);
    let whole = |lines: Page| json!({ "holders": lines.entries, "behind_sequence": behind, "next_page": lines.next });
    let shown = Output::stdout(args.output.output).show_list(lines, whole, || as_text(&page, args, &view));
    shown.map_err(Failure::failed)
}

fn as_text(page: &ListHoldersResponse, args: &ListArgs, view: &View) -> String {
    if page.holders.is_empty() {
        // An empty later page, or one of some holders only, says nothing about all of them.
        return match (&args.page, &args.authority, args.behind) {
            (Some(_), _, _) => "no more holders\n".to_owned(),
            _ if args.cut_off => "no holder is cut off\n".to_owned(),
            (None, None, true) => format!("no holder lags: all have received bundle {}\n", page.sequence),
            (None, Some(_), true) => {
                format!("no holder whose certificate chains to it lacks bundle {}\n", page.sequence)
            }
            (None, Some(_), false) => "no holder whose certificate chains to it\n".to_owned(),
            (None, None, false) => "no holders\n".to_owned(),
        };
    }
    let mut text = holders_table(&page.holders, view).render(view.width);
    if !page.next_page_token.is_empty() {
        text += &more(&printable(&page.next_page_token));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use clap::Parser;
    use signet_proto::admin::v1alpha1::Holder;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        list: ListArgs,
    }

    fn args(line: &str) -> ListArgs {
        Line::try_parse_from(std::iter::once("list").chain(line.split_whitespace())).unwrap().list
    }

    #[test]
    fn an_empty_page_speaks_for_all_only_when_all_were_asked_for() {
        let empty = ListHoldersResponse { sequence: 7, ..ListHoldersResponse::default() };
        for (line, expected) in [
            ("--behind", "no holder lags: all have received bundle 7\n"),
            ("--behind --page x", "no more holders\n"),
            ("--behind --authority 1a", "no holder whose certificate chains to it lacks bundle 7\n"),
            ("--authority 1a", "no holder whose certificate chains to it\n"),
            ("--page x", "no more holders\n"),
            ("--cut-off", "no holder is cut off\n"),
            ("--cut-off --page x", "no more holders\n"),
            ("", "no holders\n"),
        ] {
            assert_eq!(as_text(&empty, &args(line), &View::wide()), expected, "{line}");
        }
    }

    #[test]
    fn the_token_of_the_next_page_cannot_steer_the_terminal() {
        let next_page_token = "a\u{1b}[2J".to_owned();
        let page = ListHoldersResponse { holders: vec![Holder::default()], next_page_token, sequence: 0 };
        assert!(as_text(&page, &args(""), &View::wide()).ends_with("more: the same with --page a\\u{1b}[2J\n"));
    }
}
