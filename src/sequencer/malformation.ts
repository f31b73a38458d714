import { equalsUpper, upperText } from '../binlog/ascii.ts';
import { RespError, type RespScanner } from '../binlog/resp.ts';

const MULTI = Buffer.from('MULTI');
const EXEC = Buffer.from('EXEC');
const DISCARD = Buffer.from('DISCARD');

/** Why `resp` is not a list of whole commands with every MULTI closed; undefined if it is. */
export function malformation(resp: Buffer, scanner: RespScanner): string | undefined {
  if (resp.length === 0) return 'the entry holds no command';
  scanner.reset(resp);
  let open = false;
  try {
    while (scanner.next()) {
      if (scanner.argc !== 1) continue;
      if (isWord(scanner, MULTI)) {
        if (open) return `a MULTI inside a MULTI at byte ${scanner.start}`;
        open = true;
      } else if (isWord(scanner, EXEC) || isWord(scanner, DISCARD)) {
        if (!open) return `${upperText(scanner.arg(0))} without MULTI at byte ${scanner.start}`;
        open = false;
      }
    }
  } catch (error) {
    if (error instanceof RespError) return error.message;
    throw error;
  }
  return open ? 'a MULTI that the entry does not close' : undefined;
}

function isWord({ buffer, argStart, argEnd }: RespScanner, word: Buffer): boolean {
  return equalsUpper(buffer, argStart[0] as number, argEnd[0] as number, word);
}
