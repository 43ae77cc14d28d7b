/* A set of images as the value of _among in a URL: web/among.py reads the same. */
"use strict";

window.imageSearchAmong = (() => {
  const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

  /* The distance of each key from the one before, or 0 and how many follow in a row. */
  function codeOf(keys) {
    // Keys are texts where JavaScript cannot tell numbers apart.
    if (keys.some((key) => typeof key === "string" || key < 0)) return JSON.stringify(keys);
    keys.sort((one, other) => one - other);
    let [code, last] = ["", -1];
    for (let at = 0; at < keys.length; ) {
      let run = 0;
      while (keys[at + run] === last + 1 + run) run += 1;
      code += run > 1 ? digits(0) + digits(run) : digits(keys[at] - last);
      at += run > 1 ? run : 1;
      last = keys[at - 1];
    }
    return code;
  }

  /* Five bits to a character, the lowest first; the sixth says that more follow. Ids may have more than 32 bits. */
  function digits(number) {
    const rest = Math.floor(number / 32);
    const low = number % 32;
    return rest ? ALPHABET[low + 32] + digits(rest) : ALPHABET[low];
  }

  return codeOf;
})();
