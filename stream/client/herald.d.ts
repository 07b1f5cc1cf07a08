// The types of herald.js. Behaviour that a type cannot show stands in stream/PROTOCOL.md.

/**
 * What a stream does.
 *
 * - `connecting`: it asks the server.
 * - `open`: the server sends events.
 * - `stale`: nothing has come for {@link Options.staleAfter}; the connection is cut and made again.
 * - `waiting`: it tries again at {@link StateChange.until}.
 * - `offline`: as `waiting`, but the browser has no network; it tries again at once when the network returns.
 * - `signed-out`: the server does not accept the user. Only `reconnect()` tries again.
 * - `replaced`: a newer stream of the user took this one's place (`--max-streams-per-user`). The stream takes the place
 *   back when the user looks at the tab again, or by `reconnect()`.
 * - `closed`: for good, by `close()`, by the signal, or because the request can never work.
 */
export type State = "connecting" | "open" | "stale" | "waiting" | "offline" | "signed-out" | "replaced" | "closed";

export interface Options {
  /**
   * Returns a token for the user, mostly by asking your own server. Default: none, for servers with
   * `--insecure-no-auth` and for sessions that the page has opened itself.
   *
   * It is called for the first connection, and when the server no longer accepts the token. `reason` is then
   * "token-expired" (a stream was open when its token expired), or the reason of a 401 in stream/PROTOCOL.md, such as
   * "expired", "revoked" or "signature". For the first connection, and when a session is renewed at 80 % of its life, there
   * is no `reason`.
   *
   * It is never called twice at a time, except by `reconnect()`. If it rejects, or does not answer within
   * {@link Options.staleAfter}, the stream waits and tries again; a call that has not answered stays the call that counts.
   * `connect` throws a TypeError if it is not a function.
   *
   * Hazard: a token that is returned again although the server refused it ends in the state `signed-out`. So does
   * whatever is not a string: nothing, a `Response`, or an object that has the token; and an empty string.
   */
  token?: (reason?: string) => string | Promise<string>;

  /**
   * Exchanges the token for the session cookie by POST, and sends the cookie with the streams
   * (`credentials: "include"`). `true` means `session` beside the stream's URL; a string is another URL, relative to the
   * stream's: for "https://events.example.com/a/events", "login" is "https://events.example.com/a/login". The session is
   * renewed at 80 % of its life, by a new call of {@link Options.token}; its life ends 30 s after its token's, because the
   * server tolerates clocks that differ. Without `token`, a cookie that exists is used, and nothing renews it. For browsers
   * only: Node.js keeps no cookies. Default: false; the token goes in the header `Authorization`.
   *
   * Hazards: a page of another site never gets the cookie; see "Other origins" in stream/PROTOCOL.md. A stream that
   * connects again gets the records of the user whose cookie the browser then has: if another user may sign in in another
   * tab, a page closes its stream and reloads.
   */
  session?: boolean | string;

  /**
   * Where the stream begins if there is no {@link Options.lastEventId}: "now", "earliest", "delivered", a time such as
   * "2026-01-31T08:00:00Z" or a `Date`, or an age such as "90m". Default: "now".
   */
  since?: string | Date;

  /**
   * The event types to send, at most 100: a list, or a string with commas. Records without a type have the type "message".
   * Default: all.
   */
  types?: string[] | string;

  /**
   * The id of the last event that the page had, from {@link Stream.lastEventId} or {@link HeraldEvent.id}. The stream
   * continues after that event. It takes precedence over {@link Options.since}. Default: none.
   *
   * Hazards: keep the id together with what you show. An id that is newer than the kept events skips events. Each tab has
   * its own position, so tabs that write to one store overwrite each other's. Give each tab a store (`sessionStorage`), or
   * let them keep the oldest position and pass over a {@link HeraldEvent.pos} that the store has.
   */
  lastEventId?: string;

  /**
   * All tabs of the page's origin that name the same stream share one connection: see {@link StateChange.shared}. Each tab
   * gets each record once, from its own position. Two users never share, nor two tokens that may see different records:
   * the server tells each tab whose records it gets, and a tab asks by its own token or cookie before it shares. A string
   * separates further: tabs with different strings do not share. Without Web Locks (which need HTTPS or localhost) or
   * BroadcastChannel, and with a server that does not name the viewer, each tab has a connection of its own. Default: false.
   *
   * A tab whose token the server refuses is `signed-out`; another tab then tries its own token for all. A tab that is
   * signed out tries again when another tab has a stream. {@link Stream.close} and {@link Options.signal} concern their tab only.
   *
   * Hazards: the owner's token counts for the tabs that follow, so a tab stays with its user until the owner's stream ends.
   * If a `for await` loop of the owner falls back by more than 256 events, the other tabs wait with it.
   */
  share?: boolean | string;

  /**
   * Turns the text of a record into {@link HeraldEvent.data}. Default: `JSON.parse`, or the text itself if it is not JSON.
   * If it throws, the error goes to `reportError` (to `console.error` in Node.js), the event has the text as its data, and
   * the stream continues.
   *
   * Hazard: `JSON.parse` also takes texts such as `12`, and rounds whole numbers above 2^53.
   */
  parse?: (data: string, type: string) => unknown;

  /**
   * After how many milliseconds without a byte the connection is taken for dead. Default: 2.5 heartbeats of the server
   * (37,500 with the server's default of `--heartbeat 15s`). At least 1.1 heartbeats.
   */
  staleAfter?: number;

  /** Closes the stream when it aborts. */
  signal?: AbortSignal;

  /** Used instead of the global `fetch`, for tests and for back ends that need a proxy or a certificate. */
  fetch?: typeof fetch;
}

/** A record. */
export interface HeraldEvent<T = unknown, K extends string = string> {
  /** The event type: "message" for records without a type, "delete" for tombstones. */
  type: K;
  /** The record's value by {@link Options.parse}; null for a tombstone, and for a "delete" of a producer with an empty value. */
  data: T;
  /** The stream's position after this event; see {@link Options.lastEventId}. */
  id: string;
  /** The record's place in Kafka, such as "notifications-2@41": the same in every stream. */
  pos?: string;
  /** The record's timestamp. Absent for a record that has none. */
  time?: Date;
  /** The record's key. Absent for a record that has none. */
  key?: string;
  /** The record headers that the server's `--record-header` lists. */
  headers: Record<string, string>;
  /**
   * The event came before "live" on its connection: `since` asked for it, or it was missed while the page was closed, or
   * during a cut. So it says nothing about whether the user has seen the event: what comes after each cut is replayed, and new.
   */
  replayed: boolean;
}

/** Records that the stream cannot deliver; see "Gaps" in stream/PROTOCOL.md. */
export interface Gap {
  source?: string;
  partition?: number;
  from?: number;
  to?: number;
  reason: string;
  /** The stream's position after the gap. */
  id: string;
}

export interface StateChange {
  state: State;
  /** Why: an `end` reason or error code of the server ("token-expired", "busy"), a status ("503"), "network", "timeout"… */
  reason?: string;
  /**
   * The same for people, in the server's words where there are any. Where the URL may be wrong, it names the URL; where no
   * connection to another origin was possible yet, it asks for `--allow-origin`.
   */
  message?: string;
  /** When the next attempt begins, in the states `waiting` and `offline`. */
  until?: Date;
  /**
   * Whether this tab has the connection for itself, for all tabs, or uses another tab's. The states of a follower are the
   * owner's, and while it catches up, its own. With {@link Options.share}, the first `open` says "alone", because the tab does
   * not know yet whose records it gets; a second `open` says "owner" or "follower".
   */
  shared: "alone" | "owner" | "follower";
}

/** Maps event types to the types of their data. */
export type EventMap = Record<string, any>;

/** The records of an event map, and tombstones: a union that `event.type` narrows. */
export type RecordOf<Events> =
  | { [K in keyof Events & string]: HeraldEvent<Events[K], K> }[keyof Events & string]
  | ("delete" extends keyof Events ? never : HeraldEvent<null, "delete">);

/** What a `for await` loop gets: records, and gaps as events of the type "gap", which no record has. */
export type LoopEvent<Events> = RecordOf<Events> | HeraldEvent<Gap, "gap">;

export interface Stream<Events = EventMap> extends AsyncIterable<LoopEvent<Events>> {
  /**
   * Adds a listener, and returns the function that removes it. "*" gets every record. "live" is called each time that
   * the stream has caught up. A listener that throws stops nothing: its error goes to `reportError`.
   *
   * Records whose own type is "live", "state" or "*" come to "*" and to loops only. It throws a TypeError if the listener is
   * not a function.
   */
  on(type: "state", listener: (change: StateChange) => void): () => void;
  on(type: "gap", listener: (gap: Gap) => void): () => void;
  on(type: "live", listener: (live: { id: string }) => void): () => void;
  on(type: "*", listener: (event: RecordOf<Events>) => void): () => void;
  on<K extends keyof Events & string>(type: K, listener: (event: HeraldEvent<Events[K], K>) => void): () => void;
  on(type: "delete", listener: (event: HeraldEvent<null, "delete">) => void): () => void;

  /**
   * Yields each record and gap from now on. The stream is read as fast as the loop takes events: a slow loop loses
   * nothing, the module keeps one event, and the server sees a slow client. It also holds back the stream's listeners.
   * What the server has sent already waits in the browser: up to about 70 MB in Chromium, without a bound in Firefox.
   *
   * The loop ends when the stream is closed, and throws if the request can never work. Leaving the loop closes the
   * stream, unless it has listeners or other loops.
   *
   * Hazard: events that come before the loop begins do not reach it. Begin it in the turn of `connect`.
   */
  [Symbol.asyncIterator](): AsyncIterator<LoopEvent<Events>>;

  /** The position of the stream: the id to give to {@link Options.lastEventId}. It moves before the listeners are called. */
  readonly lastEventId: string;
  readonly state: State;
  /** The stream's absolute URL, as given to {@link connect}. */
  readonly url: string;

  /** Connects at once, whatever the state, except `closed`. An attempt in progress is given up. */
  reconnect(): void;
  /** Ends the stream. No listener gets another event, except for the state `closed`. */
  close(): void;
}

/**
 * Opens a stream that stays open: it connects again by itself, and continues after the last event.
 *
 * The first request follows in a microtask, so listeners that are added at once miss nothing. A redirect is not
 * followed, because the token is for one server: the stream waits with the reason "redirect". Cookies of the page's own
 * origin go with the requests, also without {@link Options.session}.
 *
 * @param url the URL of `/events`: relative to the document in browsers, absolute in Node.js. It may have parameters. A URL
 * that is not valid throws a TypeError, and so does an option that does not exist.
 */
export function connect<Events = EventMap>(url: string | URL, options?: Options): Stream<Events>;

/** An event as it came. For tests. */
export interface RawEvent {
  type: string;
  data: string;
  id: string;
  /** `time`, `key`, `pos` and `header.NAME`. */
  fields: Record<string, string>;
}

/** The parser, for tests. */
export class Parser {
  constructor(lastEventId?: string);
  /** The last `retry` of the stream, in milliseconds. */
  retry?: number;
  /** Yields the events that the bytes complete. Finish it before the next call. */
  push(bytes: Uint8Array): Generator<RawEvent>;
}

/** Yields the events of a response's body, for tests. */
export function parseEvents(body: ReadableStream<Uint8Array>, parser?: Parser, heard?: () => void): AsyncGenerator<RawEvent>;
