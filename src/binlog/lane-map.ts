// Key -> slot -> lane. The slot is Redis Cluster's (CRC16/XMODEM mod 16384, hash tags), so that keys which a
// user tied together with {tags} share a lane. https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/

export const SLOTS = 16384;

const BRACE_OPEN = 123;
const BRACE_CLOSE = 125;
const POLYNOMIAL = 0x1021;

const TABLE = crcTable();

function crcTable(): Uint16Array {
  const table = new Uint16Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ POLYNOMIAL : crc << 1;
    table[byte] = crc & 0xffff;
  }
  return table;
}

export function crc16(buffer: Uint8Array, start: number, end: number): number {
  let crc = 0;
  for (let i = start; i < end; i++) {
    crc = ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ (buffer[i] as number)] as number);
  }
  return crc;
}

export function slotOf(buffer: Uint8Array, start: number, end: number): number {
  let crc = 0;
  for (let i = start; i < end; i++) {
    const byte = buffer[i] as number;
    if (byte === BRACE_OPEN) return slotFromTag(buffer, start, end, i + 1);
    crc = ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ byte] as number);
  }
  return crc & (SLOTS - 1);
}

/** Only the first '{' counts; what follows it must close and not be empty. */
function slotFromTag(buffer: Uint8Array, start: number, end: number, tag: number): number {
  let close = tag;
  while (close < end && buffer[close] !== BRACE_CLOSE) close++;
  const tagged = close < end && close > tag;
  return (tagged ? crc16(buffer, tag, close) : crc16(buffer, start, end)) & (SLOTS - 1);
}

export function laneOf(slot: number, lanes: number): number {
  return slot % lanes;
}
