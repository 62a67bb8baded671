//! What the collections of a tenant have in common: lists in pages, single documents, deletion.

use anyhow::{Context as _, bail};
use clap::Args;
use hyper::Method;
use serde_json::{Map, Value, json};
use service_cli::{Format, List, print_json, print_table};

use crate::authority::Authority;

/// Most pages of a list: more than a tenant can have, if the server does not go round in circles.
const MAX_PAGES: usize = 100_000;

/// A collection.
pub struct Collection {
    /// Its path.
    pub path: &'static str,
    /// What its list is called in answers.
    pub plural: &'static str,
    /// The columns of its table: a header and the member that is in it.
    pub columns: &'static [(&'static str, &'static str)],
}

/// Which documents to list.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Those of this type only
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    #[command(flatten)]
    pub list: List,
}

/// Which document to print.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Its id
    id: String,
    /// All of it, as JSON
    #[arg(long)]
    json: bool,
}

/// Which documents to delete.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Doomed {
    /// Those with these ids
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Those of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// All
    #[arg(long)]
    all: bool,
}

impl Collection {
    /// All documents, of one type if one is given, in brief.
    pub async fn all(&self, authority: &Authority, kind: Option<&str>) -> anyhow::Result<Vec<Value>> {
        let query: Vec<(&str, &str)> = kind.map(|kind| ("attester_type", kind)).into_iter().collect();
        self.first(authority, &query, usize::MAX).await
    }

    /// The first documents of those that `query` asks for, at most `wanted`.
    pub async fn first(
        &self,
        authority: &Authority,
        query: &[(&str, &str)],
        wanted: usize,
    ) -> anyhow::Result<Vec<Value>> {
        let mut documents = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut query = query.to_vec();
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut page = authority.get(self.path, &query).await?;
            documents.extend(self.documents(&mut page)?);
            if documents.len() >= wanted {
                documents.truncate(wanted);
                return Ok(documents);
            }
            match page.remove("next_cursor") {
                Some(Value::String(next)) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                Some(_) => bail!("the server's pages go round in circles"),
                None => return Ok(documents),
            }
        }
        bail!("the server's list does not end")
    }

    /// The documents in an answer.
    pub fn documents(&self, answer: &mut Map<String, Value>) -> anyhow::Result<Vec<Value>> {
        match answer.remove(self.plural) {
            Some(Value::Array(documents)) => Ok(documents),
            _ => bail!("the server's answer has no {}", self.plural),
        }
    }

    /// Prints all documents.
    pub async fn list(&self, authority: &Authority, args: &ListArgs) -> anyhow::Result<()> {
        let documents = self.all(authority, args.kind.as_deref()).await?;
        self.print(&documents, args.list.format)
    }

    /// Prints documents.
    pub fn print(&self, documents: &[Value], format: Format) -> anyhow::Result<()> {
        if format == Format::Json {
            return print_json(documents);
        }
        let header: Vec<&str> = self.columns.iter().map(|(header, _)| *header).collect();
        let cells = |document: &Value| {
            self.columns.iter().map(|(_, member)| cell(document.pointer(member))).collect::<Vec<_>>()
        };
        print_table(&header, documents.iter().map(cells));
        Ok(())
    }

    /// One document with its content.
    pub async fn one(&self, authority: &Authority, id: &str) -> anyhow::Result<Value> {
        if id.contains(',') {
            bail!("{id:?} is not an id");
        }
        let mut answer = authority.get(self.path, &[("ids", id)]).await?;
        self.documents(&mut answer)?.pop().with_context(|| format!("there is nothing with the id {id}"))
    }

    /// Prints the content of a document as `text` finds it in it, or all of the document.
    pub async fn show(
        &self,
        authority: &Authority,
        args: &ShowArgs,
        text: impl FnOnce(&str) -> Option<String>,
    ) -> anyhow::Result<()> {
        let document = self.one(authority, &args.id).await?;
        if args.json {
            return print_json(&document);
        }
        let content = document.get("content").and_then(Value::as_str).and_then(text);
        let content = content
            .context("the server's answer has no content that can be shown; --json shows all of it")?;
        print!("{content}");
        if !content.ends_with('\n') {
            println!();
        }
        Ok(())
    }

    /// Changes members of a document.
    pub async fn update(
        &self,
        authority: &Authority,
        id: &str,
        changes: Map<String, Value>,
    ) -> anyhow::Result<()> {
        if changes.is_empty() {
            bail!("say what to change");
        }
        let mut body = changes;
        body.insert("id".to_owned(), Value::from(id));
        print_json(&authority.send(Method::PUT, self.path, &Value::Object(body)).await?)
    }

    /// Deletes documents.
    pub async fn delete(&self, authority: &Authority, doomed: &Doomed) -> anyhow::Result<()> {
        let body = match &doomed.kind {
            _ if doomed.all => json!({ "delete_type": "all" }),
            Some(kind) => json!({ "delete_type": "type", "attester_type": kind }),
            None => return self.delete_ids(authority, &doomed.ids).await,
        };
        authority.send(Method::DELETE, self.path, &body).await.map(drop)
    }

    /// Deletes the documents with these ids.
    pub async fn delete_ids(&self, authority: &Authority, ids: &[String]) -> anyhow::Result<()> {
        let body = json!({ "delete_type": "id", "ids": ids });
        authority.send(Method::DELETE, self.path, &body).await.map(drop)
    }
}

/// Members of a document that are given.
pub fn given<const N: usize>(members: [(&str, Option<Value>); N]) -> Map<String, Value> {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// A value as a table has it, without what could harm a terminal.
pub fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => {
            values.iter().map(|value| cell(Some(value))).collect::<Vec<_>>().join(",")
        }
        Some(value) => value.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_text_that_harms_no_terminal() {
        assert_eq!(cell(Some(&json!(["tpm_boot", "tpm_ima"]))), "tpm_boot,tpm_ima");
        assert_eq!(cell(Some(&json!("a\u{1b}[2J\nb"))), "a[2Jb");
        assert_eq!(cell(Some(&json!(7))) + &cell(None) + &cell(Some(&Value::Null)), "7");
    }
}
