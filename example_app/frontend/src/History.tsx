import type { Close } from "tornado-wsauth";
import { formatMilliseconds, formatTime } from "./format";
import type { HistoryItem } from "./paneLog";

/** What happened to the connection, newest first, and what the client did about it. */
export function History({ items, side }: { readonly items: readonly HistoryItem[]; readonly side: string }) {
  return (
    <div className="part">
      <h3>What happened</h3>
      <div
        className="scroll history"
        tabIndex={0}
        role="log"
        aria-label={`What happened in the ${side} pane, newest first`}
      >
        {items.length === 0 ? (
          <p className="empty">Nothing yet.</p>
        ) : (
          <ol role="list">
            {items.map((item) => (
              <Entry key={item.id} item={item} />
            ))}
          </ol>
        )}
      </div>
    </div>
  );
}

function Entry({ item }: { readonly item: HistoryItem }) {
  const { close } = item;
  return (
    <li data-event={item.event} data-code={close?.code ?? undefined} data-reaction={close?.reaction}>
      <time dateTime={new Date(item.at).toISOString()}>{formatTime(item.at)}</time>
      <div>
        <p>
          {close === undefined ? null : (
            <span className="code">{`${close.code ?? "–"} ${close.reason}`.trimEnd()}</span>
          )}{" "}
          {item.text}
        </p>
        {close === undefined ? null : <p className="reaction">{reactionOf(close)}</p>}
      </div>
    </li>
  );
}

function reactionOf(close: Close): string {
  if (close.retryIn === null) return "stopped";
  if (close.retryIn === 0) return "trying again at once with a new token and JWT";
  return `trying again in ${formatMilliseconds(close.retryIn)} with a new token and JWT`;
}
