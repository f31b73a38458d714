/** What to do about a server that could not be connected to, from the reason that was given. */
export function connectionHint(role: 'source' | 'target' | 'queue', why: string): string {
  const name = role.toUpperCase();
  if (/NOAUTH|WRONGPASS/.test(why)) return `set LANEGATE_${name}_PASSWORD, or --${role}-password-file`;
  if (/altnames|does not match certificate/i.test(why))
    return `name the server as its certificate does, or say how: --${role}-tls-server-name NAME`;
  if (/certificate.required|handshake.failure/i.test(why))
    return `the server wants a client certificate: --${role}-tls-cert FILE and --${role}-tls-key FILE`;
  if (/certificate|unable to (verify|get)/i.test(why))
    return `name the authority that signed its certificate: --${role}-tls-ca FILE`;
  // A server without TLS takes the greeting for the begin of a command, and waits for the rest.
  if (/wrong.version.number|rediss\S*: no answer/i.test(why))
    return `look whether this port speaks TLS; without TLS the URL begins with redis${role === 'source' ? '-stream' : ''}://`;
  return role === 'source'
    ? 'look whether --source names the right server and key'
    : `start it, or point --${role} at the right server`;
}
