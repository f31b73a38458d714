/** Arguments below this are copied together: a system call's part of its own costs more. */
const COPIED_BYTES_MAX = 4 * 1024;

export type Argument = Buffer | string | number;

export function encodeCommands(commands: readonly (readonly Argument[])[]): Buffer {
  return Buffer.concat(encodeParts(commands));
}

/** Commands as they go over the wire; large arguments are parts of their own, not copied. */
export function encodeParts(commands: readonly (readonly Argument[])[]): Buffer[] {
  const parts: Buffer[] = [];
  let text = '';
  let small: Buffer[] = [];
  const flushText = () => {
    if (text !== '') small.push(Buffer.from(text));
    text = '';
  };
  const flush = () => {
    flushText();
    if (small.length > 0) parts.push(small.length === 1 ? (small[0] as Buffer) : Buffer.concat(small));
    small = [];
  };
  for (const args of commands) {
    text += `*${args.length}\r\n`;
    for (const arg of args) {
      if (Buffer.isBuffer(arg)) {
        text += `$${arg.length}\r\n`;
        if (arg.length < COPIED_BYTES_MAX) {
          flushText();
          small.push(arg);
        } else {
          flush();
          parts.push(arg);
        }
        text += '\r\n';
      } else {
        const word = String(arg);
        text += `$${Buffer.byteLength(word)}\r\n${word}\r\n`;
      }
    }
  }
  flush();
  return parts;
}
