// @ts-check
// The little that the browser keeps for the page: how it looks, how wide its columns are.

/** @param {string} name @returns {string | null} */
export function kept(name) {
  try {
    return localStorage.getItem(`otelagent-${name}`);
  } catch {
    return null; // A browser that keeps nothing.
  }
}

/** @param {string} name @param {string} value */
export function keep(name, value) {
  try {
    localStorage.setItem(`otelagent-${name}`, value);
  } catch {
    // As above.
  }
}
