/** A command as a program writes it: strings are UTF-8, numbers decimal. */
export type Command = readonly (string | Buffer | number)[];

/** All commands as RESP arrays, back to back, written into one buffer: several times as fast as one buffer each. */
export function encodeAll(commands: readonly Command[]): Buffer {
  let bytes = 0;
  for (const command of commands) {
    bytes += headerBytes(command.length);
    for (const arg of command) {
      const length = byteLength(arg);
      bytes += headerBytes(length) + length + 2;
    }
  }
  const buffer = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const command of commands) {
    at += buffer.write(`*${command.length}\r\n`, at, 'latin1');
    for (const arg of command) {
      at += buffer.write(`$${byteLength(arg)}\r\n`, at, 'latin1');
      if (Buffer.isBuffer(arg)) at += arg.copy(buffer, at);
      else at += buffer.write(String(arg), at);
      buffer[at++] = 13;
      buffer[at++] = 10;
    }
  }
  return buffer;
}

function byteLength(arg: string | Buffer | number): number {
  return Buffer.isBuffer(arg) ? arg.length : Buffer.byteLength(String(arg));
}

/** `*3\r\n` */
function headerBytes(n: number): number {
  let digits = 1;
  for (let limit = 10; n >= limit; limit *= 10) digits++;
  return digits + 3;
}
