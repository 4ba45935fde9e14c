import { useState, type FormEvent } from "react";
import { logIn, type Login } from "./api";

interface Props {
  readonly side: string;
  readonly users: Readonly<Record<string, string>>;
  readonly suggestedUser: string;
  /** Why somebody has to log in again; empty if nobody has. */
  readonly notice: string;
  readonly onLogin: (login: Login) => void;
}

export function LoginForm({ side, users, suggestedUser, notice, onLogin }: Props) {
  const [user, setUser] = useState(suggestedUser);
  const [password, setPassword] = useState(users[suggestedUser] ?? "");
  const [problem, setProblem] = useState("");

  const choose = (name: string) => {
    setUser(name);
    setPassword(users[name] ?? "");
  };
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    try {
      const login = await logIn(user, password);
      if (login === null) setProblem("That is not the password. Choose the user again to have it filled in.");
      else onLogin(login);
    } catch {
      setProblem("The server does not answer. Is it running?");
    }
  };

  return (
    <form className="login" autoComplete="off" onSubmit={(event) => void submit(event)}>
      <fieldset className="field" role="radiogroup">
        <legend className="label">User</legend>
        <div className="picker">
          {Object.keys(users).map((name) => (
            <label key={name}>
              <input type="radio" name={`${side}-user`} checked={name === user} onChange={() => choose(name)} />
              <span>{name}</span>
            </label>
          ))}
        </div>
      </fieldset>
      <div className="field">
        <label className="label" htmlFor={`${side}-password`}>
          Password
        </label>
        <input
          id={`${side}-password`}
          type="text"
          spellCheck={false}
          autoCapitalize="off"
          autoComplete="off"
          required
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
      </div>
      <button className="primary" type="submit" data-first>
        Log in
      </button>
      <p className="notice" role="alert" hidden={!problem && !notice}>
        {problem || notice}
      </p>
    </form>
  );
}
