import type { ReactNode, Ref } from "react";

interface Props {
  readonly children: ReactNode;
  readonly onClick: () => void;
  readonly isPossible?: boolean;
  readonly kind?: "primary" | "quiet";
  /** The id of the text that says more. */
  readonly describedBy?: string;
  readonly title?: string;
  readonly ref?: Ref<HTMLButtonElement>;
}

/** A button that keeps the focus when it cannot be pressed: `aria-disabled` says so, and the click does nothing. */
export function Action({ children, onClick, isPossible = true, kind, describedBy, title, ref }: Props) {
  return (
    <button
      ref={ref}
      type="button"
      className={kind}
      title={title}
      aria-disabled={!isPossible}
      aria-describedby={describedBy}
      onClick={() => isPossible && onClick()}
    >
      {children}
    </button>
  );
}
