import { parseLine } from '../../../src/binlog/quoting.ts';
import { encodeCommand, RespScanner } from '../../../src/binlog/resp.ts';

/** A scanner on the one command that `line` (in redis-cli's quoting) says. */
export function scanned(line: string): RespScanner {
  const scanner = new RespScanner();
  scanner.reset(encodeCommand(parseLine(line)));
  scanner.next();
  return scanner;
}
