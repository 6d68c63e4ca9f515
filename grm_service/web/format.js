/** Formatting of numbers, dates and response names. */

/** The letter of response i: A to Z, then AA. Digits are reserved for positions in the prompt. */
export function letter(i) {
  return (i >= 26 ? letter(Math.floor(i / 26) - 1) : "") + String.fromCharCode(65 + (i % 26));
}

/** A number rounded to at most `digits` decimals, or a dash if there is none. */
export const number = (value, digits = 2) => (typeof value === "number" ? String(+value.toFixed(digits)) : "–");

/** A number with exactly `digits` decimals, for columns, or a dash if there is none. */
export const fixed = (value, digits = 2) => (typeof value === "number" ? value.toFixed(digits) : "–");

export const percent = (share) => (typeof share === "number" ? `${Math.round(share * 100)} %` : "–");

export const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

/** Local date and time, to the second. */
export const localTime = (iso) => new Date(iso).toLocaleString("sv-SE");

/** The response at each position of the prompt: "1 is B, 2 is A". */
export const positions = (order) => order.map((i, position) => `${position + 1} is ${letter(i)}`).join(", ");
