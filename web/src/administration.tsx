/** For whoever runs the service: accounts, tokens, what is stuck, models, exports. */

import { useCallback, useEffect, useState } from "preact/hooks";
import { API, get, send } from "./api";
import { Models } from "./models";
import { Moment } from "./level";
import type { Job, Me, Role } from "./types";

interface User {
  id: number;
  name: string;
  role: Role;
  disabled: boolean;
  openid: boolean;
}

interface Token {
  id: number;
  name: string;
  user: string;
  scopes: string[];
  used: string | null;
  ends: string | null;
  revoked: string | null;
}

const ROLES: Role[] = ["reader", "radiologist", "administrator"];
const SCOPES = ["read", "send", "verdict", "administer"];
const NEVER_AGAIN = "It is never tried again.";

/** A list of the service's, and doing something that changes it; what fails is told. */
export function useList<T>(path: string, name: string): { rows: T[]; failed: string; act: (does: () => Promise<unknown>) => void } {
  const [rows, setRows] = useState<T[]>([]);
  const [failed, setFailed] = useState("");
  const load = useCallback(async () => setRows((await get<Record<string, T[]>>(path))[name] ?? []), [path, name]);
  const act = (does: () => Promise<unknown>) => {
    setFailed("");
    does()
      .then(load)
      .catch((error) => setFailed(error.message));
  };
  useEffect(() => act(async () => {}), [load]);
  return { rows, failed, act };
}

export function Administration({ me }: { me: Me }) {
  return (
    <div class="administration">
      <h1>Administration</h1>
      <Users me={me} />
      <Tokens />
      <Stuck />
      <Models />
      <section class="card" aria-labelledby="exports-title">
        <h2 id="exports-title">Exports</h2>
        <p class="files">
          <a href={`${API}/verdicts/export?format=csv`}>verdicts (CSV)</a>
          <a href={`${API}/verdicts/export?format=parquet`}>verdicts (Parquet, for callus data from-verdicts)</a>
          <a href={`${API}/audit?format=csv`}>audit log (CSV)</a>
          <a href={`${API}/audit?format=json`}>audit log (JSON)</a>
        </p>
      </section>
    </div>
  );
}

export function Failed({ what }: { what: string }) {
  return what ? (
    <p class="error" role="alert">
      {what}
    </p>
  ) : null;
}

function Users({ me }: { me: Me }) {
  const { rows, failed, act } = useList<User>("/users", "users");
  const [role, setRole] = useState<Role>("radiologist");
  const [made, setMade] = useState<{ what: string; link: string } | null>(null);
  const invite = () =>
    act(async () => {
      const told = await send<{ link: string; days: number }>("POST", "/invitations", { role });
      setMade({ what: `Makes a ${role}'s account, once, within ${told.days} days`, link: location.origin + told.link });
    });
  const reset = (user: User) => {
    const question = `Take the password of ${user.name} away? It stops working now, and what they are logged in to ends.`;
    if (!confirm(question)) return;
    act(async () => {
      const told = await send<{ link: string; hours: number }>("POST", `/users/${user.id}/reset`);
      const what = `For ${user.name} to choose another password, once, within ${told.hours} hours`;
      setMade({ what, link: location.origin + told.link });
    });
  };
  return (
    <section class="card" aria-labelledby="users-title">
      <h2 id="users-title">People</h2>
      <div class="wide-table">
        <table>
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Role</th>
              <th scope="col">May log in</th>
              <th scope="col">
                <span class="spoken">Password</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((user) => (
              <tr key={user.id}>
                <td>
                  {user.name} {user.openid && <span class="quiet">(hospital's account)</span>}
                </td>
                <td>
                  <select
                    aria-label={`role of ${user.name}`}
                    value={user.role}
                    disabled={user.name === me.name}
                    onChange={(event) => {
                      const wanted = event.currentTarget.value;
                      act(() => send("PATCH", `/users/${user.id}`, { role: wanted }));
                    }}
                  >
                    {ROLES.map((one) => (
                      <option key={one}>{one}</option>
                    ))}
                  </select>
                </td>
                <td>
                  <span class="small">may log in</span>
                  <input
                    type="checkbox"
                    aria-label={`${user.name} may log in`}
                    checked={!user.disabled}
                    disabled={user.name === me.name}
                    onChange={() => act(() => send("PATCH", `/users/${user.id}`, { disabled: !user.disabled }))}
                  />
                </td>
                <td>
                  {!user.openid && user.name !== me.name && (
                    <button
                      type="button"
                      disabled={user.disabled}
                      aria-label={`Reset password of ${user.name}`}
                      onClick={() => reset(user)}
                    >
                      Reset password
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div class="row">
        <label>
          Invite a{" "}
          <select value={role} onChange={(event) => setRole(event.currentTarget.value as Role)}>
            {ROLES.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <button type="button" onClick={invite}>
          Make a link
        </button>
      </div>
      {made && (
        <p role="status">
          {made.what}: <code class="secret">{made.link}</code>
        </p>
      )}
      <Failed what={failed} />
    </section>
  );
}

function Tokens() {
  const { rows, failed, act } = useList<Token>("/tokens", "tokens");
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<string[]>(["read"]);
  const [secret, setSecret] = useState("");
  const toggle = (scope: string) => setScopes(scopes.includes(scope) ? scopes.filter((one) => one !== scope) : [...scopes, scope]);
  const make = (event: SubmitEvent) => {
    event.preventDefault();
    act(async () => {
      const told = await send<{ secret: string }>("POST", "/tokens", { name, scopes, days: 365 });
      setSecret(told.secret);
      setName("");
    });
  };
  const alive = rows.filter((token) => !token.revoked);
  return (
    <section class="card" aria-labelledby="tokens-title">
      <h2 id="tokens-title">Tokens for programs</h2>
      {alive.length > 0 && (
        <div class="wide-table">
          <table>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Of</th>
                <th scope="col">May</th>
                <th scope="col">Last used</th>
                <th scope="col">
                  <span class="spoken">Revoke</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {alive.map((token) => (
                <tr key={token.id}>
                  <td>{token.name}</td>
                  <td>
                    <span class="small">of</span> {token.user}
                  </td>
                  <td>{token.scopes.join(", ")}</td>
                  <td>
                    <span class="small">last used</span> {token.used ? <Moment at={token.used} /> : "never"}
                  </td>
                  <td>
                    <button
                      type="button"
                      aria-label={`Revoke ${token.name}`}
                      onClick={() => act(() => send("DELETE", `/tokens/${token.id}`))}
                    >
                      Revoke
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <form class="row" onSubmit={make}>
        <label>
          Name <input value={name} required maxLength={60} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <fieldset class="row">
          <legend class="spoken">May</legend>
          {SCOPES.map((scope) => (
            <label key={scope} class="choice">
              <input type="checkbox" checked={scopes.includes(scope)} onChange={() => toggle(scope)} /> {scope}
            </label>
          ))}
        </fieldset>
        <button type="submit" disabled={!scopes.length}>
          Make a token for a year
        </button>
      </form>
      {secret && (
        <p role="status">
          Shown this once: <code class="secret">{secret}</code>
        </p>
      )}
      <Failed what={failed} />
    </section>
  );
}

function Stuck() {
  const { rows, failed, act } = useList<Job>("/jobs?state=stuck", "jobs");
  const retry = (job: Job) => act(() => send("POST", `/jobs/${job.id}/retry`));
  const retryAll = (destination: string) => act(() => send("POST", "/jobs/retry", { destination }));
  const drop = (job: Job) => {
    if (confirm(`Drop job ${job.id}? ${NEVER_AGAIN}`)) act(() => send("POST", `/jobs/${job.id}/drop`));
  };
  const dropAll = (destination: string) => {
    if (confirm(`Drop all that is stuck on its way to ${destination}? ${NEVER_AGAIN}`)) act(() => send("POST", "/jobs/drop", { destination }));
  };
  return (
    <section class="card" aria-labelledby="stuck-title">
      <h2 id="stuck-title">What is stuck</h2>
      {rows.length === 0 && <p class="quiet">Nothing.</p>}
      {rows.length > 0 && (
        <div class="wide-table">
          <table>
            <thead>
              <tr>
                <th scope="col">What</th>
                <th scope="col">Why</th>
                <th scope="col">Since</th>
                <th scope="col">
                  <span class="spoken">Try again or drop</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((job) => (
                <tr key={job.id}>
                  <td>
                    {job.kind} {job.image !== null && `image ${job.image}`} {job.destination && `to ${job.destination}`}
                  </td>
                  <td>
                    {job.error} <span class="quiet">({job.attempts} times)</span>
                  </td>
                  <td>
                    <Moment at={job.made} />
                  </td>
                  <td>
                    <button type="button" aria-label={`Try again job ${job.id}`} onClick={() => retry(job)}>
                      Try again
                    </button>{" "}
                    {job.kind !== "identify" && job.kind !== "try" && (
                      <button type="button" aria-label={`Drop job ${job.id}`} onClick={() => drop(job)}>
                        Drop
                      </button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {[...new Set(rows.flatMap((job) => job.destination ?? []))].map((destination) => (
        <p class="row" key={destination}>
          All to {destination}:
          <button type="button" aria-label={`Try again: all to ${destination}`} onClick={() => retryAll(destination)}>
            Try again
          </button>
          <button type="button" aria-label={`Drop all to ${destination}`} onClick={() => dropAll(destination)}>
            Drop
          </button>
        </p>
      ))}
      <Failed what={failed} />
    </section>
  );
}
