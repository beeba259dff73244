/** What goes wrong while a model is loaded or run; `kind` says what sort of thing it is. */
export class EdgeccError extends Error {
  /**
   * @param {import("./index.d.ts").ErrorKind} kind
   * @param {string} message
   */
  constructor(kind, message) {
    super(message);
    this.name = "EdgeccError";
    this.kind = kind;
  }
}
