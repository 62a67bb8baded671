//! How machines are, what has happened to them, and who has changed what.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;
use service_cli::{Ended, Event, Format, List, print_json, print_table, utc};

use crate::authority::Authority;
use crate::collection::{Collection, cell};

const STATUS: Collection = Collection { path: "/status", plural: "nodes", columns: &[] };
const EVENTS: Collection = Collection { path: "/event", plural: "events", columns: &[] };
const AUDIT: Collection = Collection { path: "/audit", plural: "entries", columns: &[] };
const STREAM: &str = "/event/stream";
/// Most names that the server takes at once.
const MAX_NAMES: usize = 100;
/// Most events on a page of the server.
const PAGE: usize = 100;
/// Wait before the first try to connect again, and before the last ones; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Their names; all, if none is given
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// Those that are like this only
    #[arg(long, value_enum)]
    status: Option<Status>,
    #[command(flatten)]
    list: List,
}

/// How a machine is.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    /// The last report was accepted
    Passed,
    /// It was true and not accepted
    Failed,
    /// It may be untrue
    Refused,
    /// A report that was announced did not come
    Missed,
}

#[derive(Args, Debug)]
pub struct EventArgs {
    /// Those of one machine
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Those after the one with this number, from the first on
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// Go on with what happens from now on, until interrupted; JSON has one line for each
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    list: List,
}

#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Changes of documents of this kind: node, policy, cert, crl, ref_value, api_key, event, ..
    #[arg(long)]
    kind: Option<String>,
    /// At most so many, the last first
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    list: List,
}

pub async fn status(authority: &Authority, args: StatusArgs) -> anyhow::Result<()> {
    if args.nodes.len() > MAX_NAMES {
        bail!("NODE: at most {MAX_NAMES} at once");
    }
    if let Some(wrong) = args.nodes.iter().find(|name| name.contains(',')) {
        bail!("{wrong:?} is not the name of a machine");
    }
    let names = args.nodes.join(",");
    let status = args.status.and_then(|status| status.to_possible_value());
    let mut query = Vec::new();
    query.extend(status.as_ref().map(|status| ("status", status.get_name())));
    query.extend((!names.is_empty()).then_some(("ids", names.as_str())));
    let nodes = STATUS.first(authority, &query, usize::MAX).await?;
    if args.list.format == Format::Json {
        return print_json(&nodes);
    }
    let row = |node: &Value| {
        let of = |name| cell(node.get(name));
        let at = |name| time(node.get(name));
        let (since, reported, deadline) = (at("since"), at("reported_at"), at("deadline"));
        vec![of("node_id"), of("status"), since, reported, deadline, of("attester_types"), reason(node)]
    };
    let header = ["NODE", "STATUS", "SINCE (UTC)", "REPORTED AT", "DEADLINE", "TYPES", "REASON"];
    print_table(&header, nodes.iter().map(row));
    Ok(())
}

pub async fn events(authority: &Authority, args: EventArgs) -> anyhow::Result<()> {
    let events = past(authority, &args).await?;
    let format = args.list.format;
    if args.follow {
        for event in &events {
            print_line(event, format)?;
        }
        let last = match events.last() {
            Some(event) => cell(event.get("seq")),
            None => args.after.unwrap_or_default().to_string(),
        };
        return follow(authority, &args, last).await;
    }
    if format == Format::Json {
        return print_json(&events);
    }
    let header = ["NUMBER", "AT (UTC)", "NODE", "BEFORE", "STATUS", "REASON"];
    print_table(&header, events.iter().map(|event| cells(event).to_vec()));
    Ok(())
}

/// What has happened, the first first.
async fn past(authority: &Authority, args: &EventArgs) -> anyhow::Result<Vec<Value>> {
    let mut events: Vec<Value> = Vec::new();
    let mut mark = args.after.map(|after| after.to_string());
    let direction = if args.after.is_some() { "after" } else { "before" };
    while events.len() < args.limit {
        let limit = (args.limit - events.len()).min(PAGE);
        let count = limit.to_string();
        let mut query = vec![("limit", count.as_str())];
        query.extend(args.node.as_deref().map(|node| ("node_id", node)));
        query.extend(mark.as_deref().map(|mark| (direction, mark)));
        let mut answer = authority.get(EVENTS.path, &query).await?;
        let page = EVENTS.documents(&mut answer)?;
        let Some(last) = page.last() else { break };
        let next = Some(cell(last.get("seq")));
        if next == mark {
            bail!("the server's pages go round in circles");
        }
        mark = next;
        let whole = page.len() >= limit;
        events.extend(page);
        if !whole {
            break;
        }
    }
    if args.after.is_none() {
        events.reverse();
    }
    Ok(events)
}

/// What happens from now on. A connection that is gone is made again, and nothing is left out.
async fn follow(authority: &Authority, args: &EventArgs, mut last: String) -> anyhow::Result<()> {
    let path = match &args.node {
        Some(node) => format!("{STREAM}?{}", serde_urlencoded::to_string([("node_id", node)])?),
        None => STREAM.to_owned(),
    };
    let mut wait = FIRST_WAIT;
    let mut known = false;
    loop {
        let before = last.clone();
        let mut each = |event: Event| {
            let value = serde_json::from_str(&event.data).context("an event of the server is not JSON")?;
            last = event.id;
            print_line(&value, args.list.format)
        };
        let error = match authority.follow(&path, &before, &mut each).await {
            Ok(Ended::Refused(error)) => return Err(error),
            Ok(Ended::Broken(error)) => error,
            // That it was never there is most likely a mistake of whoever asks.
            Err(error) if !known => return Err(error),
            Err(error) => error,
        };
        known = true;
        if last != before {
            wait = FIRST_WAIT;
        }
        eprintln!("gta: {error:#}; connecting again in {} s", wait.as_secs());
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn print_line(event: &Value, format: Format) -> anyhow::Result<()> {
    let line = match format {
        Format::Json => event.to_string(),
        Format::Table => {
            let [_, at, node, before, status, reason] = cells(event);
            let before = if before.is_empty() { "new".to_owned() } else { before };
            format!("{at}  {node}  {before} -> {status}  {reason}").trim_end().to_owned()
        }
    };
    // Who reads lines wants them when they come.
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}

fn cells(event: &Value) -> [String; 6] {
    let of = |name| cell(event.get(name));
    [of("seq"), time(event.get("at")), of("node_id"), of("before"), of("status"), reason(event)]
}

pub async fn audit(authority: &Authority, args: AuditArgs) -> anyhow::Result<()> {
    let query: Vec<(&str, &str)> = args.kind.as_deref().map(|kind| ("kind", kind)).into_iter().collect();
    let entries = AUDIT.first(authority, &query, args.limit).await?;
    if args.list.format == Format::Json {
        return print_json(&entries);
    }
    let row = |entry: &Value| {
        let of = |name| cell(entry.get(name));
        vec![time(entry.get("at")), of("actor"), of("change"), of("kind"), of("id"), of("version")]
    };
    print_table(&["AT (UTC)", "ACTOR", "CHANGE", "KIND", "ID", "VERSION"], entries.iter().map(row));
    Ok(())
}

fn time(seconds: Option<&Value>) -> String {
    seconds.and_then(Value::as_i64).map(utc).unwrap_or_default()
}

/// Why a machine is not accepted, in one line.
fn reason(of: &Value) -> String {
    let Some(reason) = of.get("reason") else { return String::new() };
    let part = |name| cell(reason.get(name));
    let text = format!("{} {}: {}", part("attester_type"), part("code"), part("detail"));
    text.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_happened_is_one_line_that_harms_no_terminal() {
        let event = json!({ "seq": 7, "at": 1_800_000_000, "node_id": "web\u{1b}[2J", "status": "failed",
            "before": "passed", "reason": { "attester_type": "tpm_ima", "code": "ima_entry_unknown", "detail": "/a\nb" } });
        let expected =
            ["7", "2027-01-15 08:00:00", "web[2J", "passed", "failed", "tpm_ima ima_entry_unknown: /ab"];
        assert_eq!(cells(&event), expected);
        assert_eq!(reason(&json!({ "reason": { "code": "a", "detail": "b" } })), "a: b");
        assert_eq!(reason(&json!({})), "");
    }
}
