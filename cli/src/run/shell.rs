//! The prompt of `usersock shell`: a file or a variable by which each shell takes it, behind what the user has set up.
//! Above: `run`.

use crate::launch::Refusal;
use crate::launch::instance::Instance;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// Adds to the shell's arguments, and answers with variables for its environment.
pub(super) fn prompt(
    shell: &Path,
    instance: &Instance,
    argv: &mut Vec<OsString>,
) -> Result<Vec<(&'static str, OsString)>, Refusal> {
    let write = |name: &str, text: String| {
        let file = instance.dir.join(name);
        fs::write(&file, text).map_err(|e| Refusal::broken(format!("{}: {e}", file.display())))?;
        Ok(file)
    };
    // Any other shell takes PS1 as sh does, where its start-up files do not set it.
    let say = |name: &str| format!("({name}) ");
    let said = say(if instance.name.starts_with("shell-") { "usersock" } else { &instance.name });
    match shell.file_name().and_then(|name| name.to_str()) {
        Some("bash") => {
            let text = format!("[ -r ~/.bashrc ] && . ~/.bashrc\nPS1=\"{said}${{PS1:-\\\\$ }}\"\n");
            argv.push("--rcfile".into());
            argv.push(write("bashrc", text)?.into());
            Ok(Vec::new())
        }
        Some("zsh") => {
            let home = "${USERSOCK_ZDOTDIR:-$HOME}";
            let text = format!("ZDOTDIR={home}\n[ -r {home}/.zshrc ] && . {home}/.zshrc\nPROMPT=\"{said}$PROMPT\"\n");
            let dir = write(".zshrc", text)?.parent().map(OsString::from).unwrap_or_default();
            let theirs = std::env::var_os("ZDOTDIR").map(|dir| ("USERSOCK_ZDOTDIR", dir));
            Ok(theirs.into_iter().chain([("ZDOTDIR", dir)]).collect())
        }
        Some("fish") => {
            argv.push("-C".into());
            argv.push(
                format!("functions -c fish_prompt usersock_p; function fish_prompt; echo -n '{said}'; usersock_p; end")
                    .into(),
            );
            Ok(Vec::new())
        }
        _ => Ok(vec![("PS1", format!("{said}$ ").into())]),
    }
}
