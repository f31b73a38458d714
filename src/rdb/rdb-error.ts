/** The bytes are not a snapshot that can be read. */
export class RdbError extends Error {
  override readonly name = 'RdbError';
  /** Byte of the file at which it stopped making sense. */
  readonly offset: number;
  readonly expected: string;

  constructor(offset: number, expected: string) {
    super(`not a readable RDB file: expected ${expected} at byte ${offset}`);
    this.offset = offset;
    this.expected = expected;
  }
}
