// @ts-check
// A database query, broken into lines where its clauses begin. Only how it is shown: nothing is understood or changed.

const CLAUSES = /^(select|from|where|group by|order by|having|limit|offset|union(?: all)?|values|set|returning|on conflict|(?:left |right |full |inner |cross )?(?:outer )?join|insert into|update|delete from|with)$/;
const WORDS = /^(and|or|as|on|in|is|not|null|distinct|asc|desc|between|like|ilike|case|when|then|else|end|exists|using|over|partition|by|all|any|into|do|nothing|conflict|true|false|begin|commit|rollback|savepoint|release|create|table|index|pragma|if|primary|key)$/;
const TOKEN =
  /(--[^\n]*|\/\*[\s\S]*?\*\/)|('(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)|(group\s+by|order\s+by|union\s+all|insert\s+into|delete\s+from|on\s+conflict|(?:left\s+|right\s+|full\s+|inner\s+|cross\s+)(?:outer\s+)?join|[a-z_][\w$]*)|(\d+(?:\.\d+)?)|(\s+)|([\s\S])/gi;

/** @typedef {{text: string, kind: "word" | "text" | "number" | "comment" | "plain"}} Token */

/** @param {string} query @returns {Token[]} */
export function sql(query) {
  /** @type {Token[]} */
  const tokens = [];
  const broken = /\n/.test(query.trim());
  let depth = 0;
  for (const found of query.trim().matchAll(TOKEN)) {
    const [text, comment, quoted, word, number, space] = found;
    if (comment) tokens.push({ text, kind: "comment" });
    else if (quoted) tokens.push({ text, kind: "text" });
    else if (number) tokens.push({ text, kind: "number" });
    else if (space) tokens.push({ text: broken ? text : " ", kind: "plain" });
    else if (word) {
      const lower = word.toLowerCase().replace(/\s+/g, " ");
      const clause = CLAUSES.test(lower);
      if (!broken && depth === 0 && tokens.length) {
        if (clause) newLine(tokens, "");
        else if (lower === "and" || lower === "or") newLine(tokens, "  ");
      }
      tokens.push({ text, kind: clause || WORDS.test(lower) ? "word" : "plain" });
    } else {
      if (text === "(") depth += 1;
      if (text === ")") depth = Math.max(0, depth - 1);
      tokens.push({ text, kind: "plain" });
    }
  }
  return tokens;
}

/** @param {Token[]} tokens @param {string} indent */
function newLine(tokens, indent) {
  const last = tokens[tokens.length - 1];
  if (last.kind === "plain" && last.text === " ") tokens.pop();
  tokens.push({ text: `\n${indent}`, kind: "plain" });
}
