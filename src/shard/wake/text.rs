//! The sentences that a device shows, in the language of its user.

/// What sort of message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// The sender does not say.
    Message,
    /// A text.
    Text,
    /// A file.
    File,
    /// A picture.
    Image,
    /// A recording.
    Voice,
    /// A film.
    Video,
    /// Money.
    Money,
}

/// Who and where, in a sentence.
pub(super) struct Names<'a> {
    pub(super) sender: &'a str,
    pub(super) receiver: &'a str,
    pub(super) group: Option<&'a str>,
}

impl Sort {
    /// By the number of the content; none for what nobody is woken for, such as commands.
    pub(super) const fn of(kind: u32) -> Option<Self> {
        use crate::proto::content::kind;
        Some(match kind {
            0 => Self::Message,
            kind::TEXT => Self::Text,
            kind::FILE => Self::File,
            kind::IMAGE => Self::Image,
            kind::AUDIO => Self::Voice,
            kind::VIDEO => Self::Video,
            kind::MONEY | kind::TRANSFER => Self::Money,
            _ => return None,
        })
    }

    /// The first line, in every language, as the reference has it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Message => "Message",
            Self::Text => "Text Message",
            Self::File => "File",
            Self::Image => "Image",
            Self::Voice => "Voice",
            Self::Video => "Video",
            Self::Money => "Money",
        }
    }
}

struct Language {
    /// As visas begin; the first that fits counts.
    tags: &'static [&'static str],
    personal: &'static str,
    in_group: &'static str,
    /// What was sent, in the order of `Sort`.
    what: [&'static str; 7],
}

/// The first is spoken where none fits.
const LANGUAGES: &[Language] = &[
    Language {
        tags: &["en"],
        personal: "Dear {receiver}: {sender} sent you {what}.",
        in_group: "Dear {receiver}: {sender} sent you {what} in group \"{group}\".",
        what: [
            "a message",
            "a text message",
            "a file",
            "an image",
            "a voice message",
            "a video",
            "some money",
        ],
    },
    Language {
        tags: &["zh-hant", "zh-tw", "zh-hk", "zh-mo"],
        personal: "{receiver}，{sender}給你發來{what}。",
        in_group: "{receiver}，{sender}在群「{group}」裡給你發來{what}。",
        what: [
            "一則訊息",
            "一則文字訊息",
            "一個檔案",
            "一張圖片",
            "一段語音",
            "一段影片",
            "一筆錢",
        ],
    },
    Language {
        tags: &["zh"],
        personal: "{receiver}，{sender}给你发来{what}。",
        in_group: "{receiver}，{sender}在群“{group}”里给你发来{what}。",
        what: [
            "一条消息",
            "一条文字消息",
            "一个文件",
            "一张图片",
            "一段语音",
            "一段视频",
            "一笔钱",
        ],
    },
    Language {
        tags: &["de"],
        personal: "{receiver}: {sender} hat dir {what} geschickt.",
        in_group: "{receiver}: {sender} hat dir in der Gruppe „{group}“ {what} geschickt.",
        what: [
            "eine Nachricht",
            "eine Textnachricht",
            "eine Datei",
            "ein Bild",
            "eine Sprachnachricht",
            "ein Video",
            "Geld",
        ],
    },
    Language {
        tags: &["es"],
        personal: "{receiver}: {sender} te ha enviado {what}.",
        in_group: "{receiver}: {sender} te ha enviado {what} en el grupo «{group}».",
        what: [
            "un mensaje",
            "un mensaje de texto",
            "un archivo",
            "una imagen",
            "un mensaje de voz",
            "un vídeo",
            "dinero",
        ],
    },
    Language {
        tags: &["fr"],
        personal: "{receiver} : {sender} t’a envoyé {what}.",
        in_group: "{receiver} : {sender} t’a envoyé {what} dans le groupe « {group} ».",
        what: [
            "un message",
            "un message texte",
            "un fichier",
            "une image",
            "un message vocal",
            "une vidéo",
            "de l’argent",
        ],
    },
    Language {
        tags: &["ja"],
        personal: "{receiver}さん、{sender}さんから{what}が届きました。",
        in_group: "{receiver}さん、グループ「{group}」で{sender}さんから{what}が届きました。",
        what: [
            "メッセージ",
            "テキストメッセージ",
            "ファイル",
            "画像",
            "ボイスメッセージ",
            "動画",
            "お金",
        ],
    },
];

fn language(tag: &str) -> Option<&'static Language> {
    let tag = tag.replace('_', "-").to_lowercase();
    let fits = |name: &&str| {
        tag.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    };
    LANGUAGES.iter().find(|language| language.tags.iter().any(&fits))
}

/// What a device shows of a message.
pub(super) fn sentence(tag: &str, sort: Sort, names: &Names<'_>) -> String {
    let Some(language) = language(tag).or(LANGUAGES.first()) else {
        return String::new();
    };
    let pattern = if names.group.is_some() { language.in_group } else { language.personal };
    let mut sentence = String::new();
    for part in pattern.split_inclusive(['{', '}']) {
        // A name stays as it is, whatever is in it: only the pattern is looked at.
        let place = part.strip_suffix('}');
        sentence.push_str(match place {
            Some("receiver") => names.receiver,
            Some("sender") => names.sender,
            Some("group") => names.group.unwrap_or_default(),
            Some("what") => language.what.get(sort as usize).copied().unwrap_or_default(),
            _ => part.strip_suffix('{').unwrap_or(part),
        });
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_found_by_what_devices_call_it_and_english_is_the_last_resort() {
        let names = Names { sender: "Alice", receiver: "Bob {sender}", group: None };
        let said = |tag| sentence(tag, Sort::Text, &names);
        assert_eq!(said("en-US"), "Dear Bob {sender}: Alice sent you a text message.");
        for (tag, word) in [
            ("zh_CN", "文字消息"),
            ("zh-Hans-CN", "文字消息"),
            ("zh-Hant", "文字訊息"),
            ("zh_TW.UTF-8", "文字訊息"),
            ("de", "eine Textnachricht"),
            ("fr-CH", "un message texte"),
        ] {
            assert!(said(tag).contains(word), "{tag}: {}", said(tag));
        }
        for tag in ["", "xx", "den", "zhx", "_"] {
            assert_eq!(said(tag), said("en"), "{tag}");
        }
    }

    #[test]
    fn every_sentence_names_all_there_is_to_name() {
        let names = Names { sender: "Alice", receiver: "Bob", group: Some("Friends") };
        let sorts = [
            Sort::Message,
            Sort::Text,
            Sort::File,
            Sort::Image,
            Sort::Voice,
            Sort::Video,
            Sort::Money,
        ];
        for language in LANGUAGES {
            for (sort, what) in sorts.into_iter().zip(language.what) {
                for names in [&Names { group: None, ..names }, &names] {
                    let said = sentence(language.tags[0], sort, names);
                    let group = names.group.unwrap_or("Bob");
                    for word in ["Alice", "Bob", group, what] {
                        assert_eq!(said.matches(word).count(), 1, "{word}: {said}");
                    }
                    assert!(!said.contains(['{', '}']), "{said}");
                }
            }
        }
    }

    #[test]
    fn nobody_is_woken_by_commands() {
        use crate::proto::content::kind;
        for kind in [kind::COMMAND, kind::HISTORY, kind::FORWARD, kind::CUSTOMIZED, 7] {
            assert_eq!(Sort::of(kind), None);
        }
    }
}
