// Made from mediaserver/protocol.py by `python -m mediaserver.asyncapi --typings`; do not edit.

export declare const VERSION: 1;

/** How old what the client shows is, by the capture times that come with it and the server's clock (`pong`). A handful of samples of each track, once a second; what comes more often than every 0.5 s is left aside. The report of the session has their percentiles. */
export interface Ages {
  type: "ages";
  tracks: TrackAges[];
}

/** The answer to an offer. What was asked for and is not in `bound` is in `refused`, with the reason. */
export interface Answer {
  type: "answer";
  id: number;
  sdp: string;
  bound: Binding[];
  refused: Refusal[];
}

/** Have a participant asked (again) whether it may be recorded; needs the right `record`. */
export interface AskConsent {
  type: "ask-consent";
  id: number;
  participant: string;
}

/** Which track an m-line of the answer carries, in either direction. */
export interface Binding {
  mid: string;
  track: string;
}

/** A trickled ICE candidate; an empty one ends the list. */
export interface Candidate {
  type: "candidate";
  candidate: string;
  mid?: string;
}

/** Agree to be recorded, refuse, or withdraw: `given` false after true. `version` names the text that was shown. Without `sources` it is about everything that the client publishes. With them, a yes is for these and takes back what was agreed to besides; a no is to these alone, and leaves the others as they are. Nothing that arrives after the refusal is recorded. Where everybody is recorded, who refuses may not publish, and who publishes when it refuses is removed. */
export interface Consent {
  type: "consent";
  id: number;
  given: boolean;
  version?: string;
  sources?: Source[] | null;
}

/** The user is to be asked whether it may be recorded; `consent` answers. `by` is the participant who has it asked again. Nothing is recorded of it meanwhile, so there is no hurry. */
export interface ConsentAsked {
  type: "consent-asked";
  terms: ConsentTerms;
  by: string | null;
}

/** A participant has been asked, has agreed, refused or withdrawn; the client's own one too. `sources`: what a consent that is given is for, null for everything. */
export interface ConsentChanged {
  type: "participant-consent";
  participant: string;
  consent: "asked" | "given" | "refused" | "unasked" | "withdrawn";
  sources: Source[] | null;
}

/** What a client shows before its user agrees: `text` where the rule is `consent`, `notice` where it is `required`. `version` names them. `withdrawal`: what becomes of what was recorded until the user withdraws. */
export interface ConsentTerms {
  version: string;
  text: string;
  notice: string;
  withdrawal: "erase" | "keep";
}

/** To the publisher of a track with several simulcast encodings: those that somebody gets or records, by their rids. One that is wanted again is to be sent at once. One that is no longer wanted may be left out (`active: false` in `setParameters`), better not before it has been unwanted for some seconds. */
export interface EncodingsWanted {
  type: "encodings";
  track: string;
  wanted: string[];
}

/** A request was refused, or, with `fatal`, the connection is about to be closed. `line` is the line of the offer that can't be served. `retry_seconds` comes with `overloaded`: the server is at its limit and lets nobody more in; after so long it is worth another try, here or at another server. */
export interface Error {
  type: "error";
  code: "already-joined" | "bad-message" | "bad-offer" | "forbidden" | "internal" | "not-found" | "not-joined" | "not-negotiated" | "overloaded" | "removed" | "replaced" | "resume-failed" | "room-full" | "shutting-down" | "timeout" | "too-fast" | "too-slow" | "unauthorized" | "unsupported-version";
  message: string;
  id: number | null;
  line: string | null;
  fatal: boolean;
  retry_seconds: number | null;
}

export type Freshness = "live" | "stale" | "unchanging";

/** A STUN or TURN server, shaped as the browsers' RTCIceServer. */
export interface IceServer {
  urls: string[];
  username: string;
  credential: string;
}

/** The first message of a connection. `resume` is what an earlier `joined` gave: it takes up that session. A name in the token goes before `name`. */
export interface Join {
  type: "join";
  id: number;
  version: number;
  room: string;
  token: string;
  name?: string;
  resume?: string | null;
}

/** The join was granted. `resume` is the key that takes this session up again after a dropped connection. */
export interface Joined {
  type: "joined";
  id: number;
  version: number;
  participant: string;
  room: string;
  name: string;
  role: Role;
  rights: Right[];
  resume: string;
  resumed: boolean;
  resume_seconds: number;
  participants: ParticipantView[];
  tracks: TrackInfo[];
  qualities: TrackQuality[];
  speaker: string | null;
  recording: RecordingView;
  consent: ConsentTerms;
  ice_servers: IceServer[];
  budgets: Record<Source, SourceBudget>;
  skew: Skew;
}

/** Ask the publisher of a track for a keyframe; limited by the server. */
export interface Keyframe {
  type: "keyframe";
  track: string;
}

export type Kind = "audio" | "video";

/** Leave the room for good; the server answers `ok` and closes the connection. */
export interface Leave {
  type: "leave";
  id: number;
}

/** A figure's floor (below it a breach is shown, counted and kept), alarm and target; 0 where it says nothing. */
export interface Levels {
  floor: number;
  alarm: number;
  target: number;
}

/** Ask for the list of those in the room. */
export interface ListParticipants {
  type: "participants";
  id: number;
}

/** Stop or go on forwarding a track of one's own. */
export interface Mute {
  type: "mute";
  id: number;
  track: string;
  muted: boolean;
}

/** A WebRTC offer: the first, or a later one that adds or removes tracks or restarts ICE. An m-line that sends is named in `publish`, one that receives in `subscribe`; what is in neither is declined. */
export interface Offer {
  type: "offer";
  id: number;
  sdp: string;
  publish?: Publication[];
  subscribe?: Subscription[];
}

/** The request was carried out. */
export interface Ok {
  type: "ok";
  id: number;
}

/** Somebody has joined. */
export interface ParticipantJoined {
  type: "participant-joined";
  participant: ParticipantView;
}

/** Somebody has left. `reason` is `left`, `disconnected` (the socket dropped and did not resume), `silent` (no media connection any more), `never-connected`, `transport-closed` (WHIP and WHEP), `removed` (by an operator), `refused-recording` (where everybody is recorded) or `room-closed`. */
export interface ParticipantLeft {
  type: "participant-left";
  participant: string;
  reason: string;
}

/** A participant as the others see it. */
export interface ParticipantView {
  id: string;
  name: string;
  role: Role;
  consent: "asked" | "given" | "refused" | "unasked" | "withdrawn";
  consent_sources: Source[] | null;
}

/** Those in the room. */
export interface Participants {
  type: "participants";
  id: number;
  participants: ParticipantView[];
}

/** Ask for a sign of life. */
export interface Ping {
  type: "ping";
  id: number;
}

/** The answer to `ping`. `time` is the server's clock in ms, NTP time as its RTCP sender reports show it: what the clock offset of abs-capture-time leads to. It is no time of day. */
export interface Pong {
  type: "pong";
  id: number;
  time: number;
}

/** What the client sends on one m-line. */
export interface Publication {
  mid: string;
  source: Source;
  label?: string;
}

export type QualityCause = "" | "line" | "source" | "viewer";

/** What the client gets of a track is another than before. */
export interface QualityChanged {
  type: "quality";
  quality: TrackQuality;
}

export type QualityState = "ok" | "below-floor" | "paused" | "waiting";

/** Switch the recording of the room; needs the right `record`. */
export interface Record {
  type: "record";
  id: number;
  on: boolean;
}

/** The recording was switched, is in trouble, or other tracks go into it; fields as in `RecordingView`. */
export interface RecordingChanged {
  type: "recording";
  state: "alarm" | "off" | "on" | "starting";
  recording: string | null;
  detail: string;
  whose: "consent" | "forbidden" | "required";
  tracks: string[];
}

/** Whether the room is being recorded. `alarm`: it should be, and something of it is being lost. `whose` tracks may go in: nobody's (`forbidden`), of those who have agreed (`consent`), everybody's (`required`); `tracks` are those that do now. */
export interface RecordingView {
  state: "alarm" | "off" | "on" | "starting";
  recording: string | null;
  detail: string;
  whose: "consent" | "forbidden" | "required";
  tracks: string[];
}

/** Why an m-line that was asked for carries nothing. */
export interface Refusal {
  mid: string;
  reason: string;
}

export type Right = "publish" | "subscribe" | "record" | "admin";

export type Role = "cart" | "doctor" | "observer" | "archivist" | "operator";

/** How far two tracks of one participant may be apart, in milliseconds. */
export interface Skew {
  sound_ahead_ms: number;
  sound_behind_ms: number;
  ultrasound_camera_ms: number;
  stethoscope_picture_ms: number;
}

export type SoundFault = "dtx" | "speech" | "bandwidth" | "bitrate" | "long-packets" | "malformed";

export type Source = "camera" | "ultrasound" | "stethoscope" | "microphone" | "screen" | "dermatoscope" | "otoscope" | "vitals";

/** The budget of one source. Times are in milliseconds, loss is a fraction, 0 means no demand. Where a line does not carry everything, sound goes before any picture and then a smaller `rank` before a larger one: floors first, then targets. An app may move a track from `best_rank` to `worst_rank`. With `frames_first` frames are given up before pixels; without `sized` the picture is sent whole however small it is shown. A picture is STALE when no new frame came for `stale_frames` frame intervals, but never before `stale_ms`; it is dimmed after `dim_ms`, and called unchanging when its content stayed the same for `unchanged_ms`. Sound is STALE when no packet came for so long. Frame intervals count up to 0.4 s, so that everybody can be told in 0.5 s. */
export interface SourceBudget {
  rank: number;
  best_rank: number;
  worst_rank: number;
  frames_first: boolean;
  sized: boolean;
  frames_per_second: Levels;
  kbit_per_second: Levels;
  least_width: number;
  least_height: number;
  glass_to_glass_ms: number;
  server_p99_ms: number;
  server_jitter_p99_ms: number;
  raw_loss: number;
  recovery_ms: number;
  first_frame_ms: number;
  stale_frames: number;
  stale_ms: number;
  dim_ms: number;
  unchanged_ms: number;
}

/** Somebody else speaks, or, with null, nobody any more; voices (`microphone`) alone are heard. A short noise takes the floor from nobody, and two speakers begin at least a second apart. Who leaves, or ends the track, no longer speaks; that is not told apart. */
export interface Speaker {
  type: "speaker";
  participant: string | null;
  track: string | null;
}

/** Go on receiving a track that the answer has bound. */
export interface Subscribe {
  type: "subscribe";
  id: number;
  track: string;
}

/** The track that the client wants to receive on one m-line. */
export interface Subscription {
  mid: string;
  track: string;
}

/** A track can be subscribed to. Everybody in the room is told, its publisher too. */
export interface TrackAdded {
  type: "track-added";
  track: TrackInfo;
}

/** Of one track, how old some of what was shown or played was: from its capture on, in ms. */
export interface TrackAges {
  track: string;
  ages: number[];
}

/** A track's codec, size, label or mute has changed, or what is wrong with its sound. */
export interface TrackChanged {
  type: "track-changed";
  track: TrackInfo;
}

/** Nothing new comes of a track (`stale`), its pictures show nothing new (`unchanging`), or it is live again. The server judges by packets and by what frames cost, so a small change may pass for none: who sees the pixels knows better than `unchanging`. Whether what arrives is of now a client must judge by its own clock as well. */
export interface TrackFreshness {
  type: "track-freshness";
  track: string;
  state: Freshness;
}

/** A published track as others are told of it. `codec` is the rtpmap name, "" until it is known. */
export interface TrackInfo {
  id: string;
  participant: string;
  source: Source;
  kind: Kind;
  label: string;
  codec: string;
  muted: boolean;
  width: number;
  height: number;
  live: boolean;
  freshness: Freshness;
  faults: SoundFault[];
}

/** What the client gets of a track. `below-floor`: less than its source must hold. `cause`: `line` is the client's own line, `source` the publisher, `viewer` the client's wish. Layers are -1 where nothing is left out; what is not known is 0. */
export interface TrackQuality {
  track: string;
  state: QualityState;
  cause: QualityCause;
  spatial: number;
  temporal: number;
  frames: number;
  width: number;
  height: number;
}

/** A track is gone. */
export interface TrackRemoved {
  type: "track-removed";
  track: string;
}

/** The state of the client's own media connection, as the server sees it. */
export interface TransportChanged {
  type: "transport";
  state: TransportState;
}

export type TransportState = "new" | "connecting" | "connected" | "closed";

/** Pause a received track: its packets stop, its m-line stays. */
export interface Unsubscribe {
  type: "unsubscribe";
  id: number;
  track: string;
}

/** What the client looks at: how large it shows tracks, which it holds for important, which it does without. It can be sent for any track of the room, received already or not, and holds until the next one. The room's policy bounds it; `viewing` answers with what it comes to. */
export interface View {
  type: "view";
  id: number;
  tracks: ViewWish[];
}

/** What holds for one track from now on. `height` is 0 where the size as shown makes no difference. */
export interface ViewGrant {
  track: string;
  height: number;
  rank: number;
  paused: boolean;
}

/** What is wished of one track; what is left out stays as it was. */
export interface ViewWish {
  track: string;
  height?: number | null;
  rank?: number | null;
  paused?: boolean | null;
}

/** The answer to `view`: what it comes to within the policy of the room. */
export interface Viewing {
  type: "viewing";
  id: number;
  tracks: ViewGrant[];
}

export type ClientMessage =
  | Join
  | Offer
  | Candidate
  | Mute
  | Subscribe
  | Unsubscribe
  | View
  | Keyframe
  | Record
  | Consent
  | AskConsent
  | Ages
  | ListParticipants
  | Leave
  | Ping;

export type ServerMessage =
  | Joined
  | Answer
  | ParticipantJoined
  | ParticipantLeft
  | TrackAdded
  | TrackChanged
  | TrackFreshness
  | TrackRemoved
  | QualityChanged
  | EncodingsWanted
  | Speaker
  | RecordingChanged
  | ConsentAsked
  | ConsentChanged
  | TransportChanged
  | Viewing
  | Participants
  | Ok
  | Pong
  | Error;
