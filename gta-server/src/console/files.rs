//! The files of the console, in `gta-server/console`.

/// A file.
pub struct File {
    /// Its path under `/console/`.
    pub path: &'static str,
    /// Its text.
    pub content: &'static str,
}

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        /// Every file.
        pub const FILES: &[File] = &[
            $(File { path: $path, content: include_str!(concat!("../../console/", $path)) }),*
        ];
    };
}

files! {
    "favicon.svg",
    "index.html",
    "lib/announce.js",
    "lib/api.js",
    "lib/base64.js",
    "lib/dialog.js",
    "lib/dom.js",
    "lib/format.js",
    "lib/router.js",
    "lib/session.js",
    "lib/stream.js",
    "main.js",
    "parts/code.js",
    "parts/facts.js",
    "parts/form.js",
    "parts/pager.js",
    "parts/problem.js",
    "parts/reason.js",
    "parts/removal.js",
    "parts/status.js",
    "parts/table.js",
    "style/base.css",
    "style/layout.css",
    "style/parts.css",
    "views/audit.js",
    "views/certificate-form.js",
    "views/certificate.js",
    "views/certificates.js",
    "views/node-form.js",
    "views/node.js",
    "views/nodes.js",
    "views/overview.js",
    "views/policies.js",
    "views/policy-form.js",
    "views/policy.js",
    "views/ref-value-form.js",
    "views/ref-value.js",
    "views/ref-values.js",
    "views/sign-in.js",
}

impl File {
    /// What it is.
    pub fn media_type(&self) -> &'static str {
        match self.path.rsplit_once('.') {
            Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn found(directory: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(self::found(&path)) } else { found.push(path) }
        }
        found
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
        let mut there: Vec<String> =
            found(&root).iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect();
        there.sort();
        assert_eq!(there, FILES.iter().map(|file| file.path).collect::<Vec<_>>());
        assert!(FILES.iter().all(|file| file.media_type() != "text/plain; charset=utf-8"));
    }

    /// What the policy of the pages forbids would not work in browsers, and what they must never do would.
    #[test]
    fn no_file_makes_markup_of_text_keeps_a_key_or_needs_another_server() {
        for file in FILES {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "setHTML",
                "eval(",
                "new Function",
                "localStorage",
                "sessionStorage",
                "indexedDB",
                "document.cookie",
                "javascript:",
                "http:",
                "https:",
                " style=",
                " onclick",
                "<style",
                "@import",
            ] {
                let text = file.content.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(forbidden), "{}: {forbidden}", file.path);
            }
        }
        let index = FILES.iter().find(|file| file.path == "index.html").unwrap();
        let scripts = index.content.matches("<script").count();
        assert_eq!(
            scripts,
            index.content.matches("<script type=\"module\" src=\"main.js\"></script>").count()
        );
    }
}
