// Texts of the product API, which may be HTML. They are read in an inert document and rebuilt from harmless elements.

import { h } from "./dom.js";

const MARKUP = /<\/?[a-z][^<>]*>|&(?:#\d+|#x[\da-f]+|[a-z]+\d*);/i;
const KEPT = { P: "p", BR: "br", UL: "ul", OL: "ol", LI: "li", STRONG: "strong", B: "strong", EM: "em", I: "em", H1: "strong", H2: "strong", H3: "strong", H4: "strong" };
const DROPPED = new Set(["SCRIPT", "STYLE", "TEMPLATE", "NOSCRIPT", "IFRAME", "OBJECT", "SVG", "MATH", "TEXTAREA", "SELECT", "TITLE"]);
const BLOCKS = new Set(["DIV", "SECTION", "ARTICLE", "TABLE", "TR", "TD", "TH", "H1", "H2", "H3", "H4", "H5", "H6", "BLOCKQUOTE", "PRE", "HR", "DL", "DT", "DD"]);

// The browser reports each inline style and handler as a violation of the page's policy, even in an inert document.
const UNWANTED = /<(script|style)\b[\s\S]*?<\/\1\s*>/gi;
const ATTRIBUTES = /<([a-z][\w-]*)(?:"[^"]*"|'[^']*'|[^'">])*>/gi;

/** The children of an inert node, without attributes and without anything that is not text. */
function rebuilt(node) {
  return [...node.childNodes].flatMap((child) => {
    if (child.nodeType === Node.TEXT_NODE) return [child.data];
    const name = child.nodeName.toUpperCase();
    if (child.nodeType !== Node.ELEMENT_NODE || DROPPED.has(name)) return [];
    const inner = rebuilt(child);
    const made = KEPT[name] ? [h(KEPT[name], {}, name === "BR" ? [] : inner)] : inner;
    return BLOCKS.has(name) ? [h("br"), ...made, h("br")] : made;
  });
}

/** A description as nodes: plain text as it is, HTML as its text with paragraphs, lists and emphasis. */
export function richText(text) {
  if (!MARKUP.test(text ?? "")) return [text ?? ""];
  const bare = text.replace(UNWANTED, " ").replace(ATTRIBUTES, "<$1>");
  return rebuilt(new DOMParser().parseFromString(bare, "text/html").body);
}

/** A description as one line of text. */
export const plainText = (text) => h("div", {}, richText(text).map((node) => [node, " "])).textContent.replace(/\s+/g, " ").trim();
