/** What XINFO STREAM says of a stream at one moment. */
export interface Snapshot {
  readonly length: number;
  readonly lastGeneratedId: string;
  readonly firstId: string | undefined;
  readonly lastId: string | undefined;
  /** Redis 7.0 and newer. */
  readonly entriesAdded: number | undefined;
  /** Redis 7.0 and newer. By XDEL only: trimming leaves it alone. */
  readonly maxDeletedId: string | undefined;
}

/** Reads the flat list of names and values that XINFO STREAM replies. */
export function parseSnapshot(reply: readonly unknown[]): Snapshot {
  const fields = new Map<string, unknown>();
  for (let i = 0; i + 1 < reply.length; i += 2) fields.set(String(reply[i]), reply[i + 1]);
  const added = fields.get('entries-added');
  const maxDeleted = fields.get('max-deleted-entry-id');
  return {
    length: Number(fields.get('length')),
    lastGeneratedId: String(fields.get('last-generated-id')),
    firstId: entryId(fields.get('first-entry')),
    lastId: entryId(fields.get('last-entry')),
    entriesAdded: added === undefined ? undefined : Number(added),
    maxDeletedId: maxDeleted === undefined ? undefined : String(maxDeleted),
  };
}

function entryId(entry: unknown): string | undefined {
  return Array.isArray(entry) ? String(entry[0]) : undefined;
}
