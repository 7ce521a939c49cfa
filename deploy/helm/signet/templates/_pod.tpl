{{/* 288 is 0440, which is read in two ways. */}}
{{/* The pod of a CA: `serve`, and the Job that makes the first authority, see the same files. */}}
{{- define "signet.volumes" -}}
- name: config
  configMap: { name: {{ include "signet.ca" . }} }
- name: run
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
- name: sealing-key
  secret:
    secretName: {{ include "signet.sealingSecret" . }}
    items: [{ key: {{ .Values.sealingKey.key | quote }}, path: encryption-key, mode: 288 }]
{{- if .Values.caFiles.secret }}
- name: ca-files
  secret: { secretName: {{ .Values.caFiles.secret | quote }}, defaultMode: 288 }
{{- end }}
{{- if include "signet.asksVault" . }}
{{- with .Values.vault }}
{{- if .caConfigMap }}
- name: vault-ca
  configMap:
    name: {{ .caConfigMap | quote }}
    items: [{ key: {{ .caKey | quote }}, path: ca.crt }]
{{- else if .caSecret }}
- name: vault-ca
  secret:
    secretName: {{ .caSecret | quote }}
    items: [{ key: {{ .caKey | quote }}, path: ca.crt }]
{{- end }}
{{- if eq .auth.method "kubernetes" }}
# Of use to Vault alone: it is sent to it.
- name: vault-token
  projected:
    defaultMode: 288
    sources:
      - serviceAccountToken: { audience: {{ .auth.audience | quote }}, expirationSeconds: 3600, path: token }
{{- else }}
- name: vault
  secret:
    secretName: {{ .auth.secretIdSecret | quote }}
    items: [{ key: {{ .auth.secretIdKey | quote }}, path: secret-id, mode: 288 }]
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.storage.postgres }}
{{- if eq $.Values.storage.kind "postgres" }}
{{- if .passwordSecret }}
- name: postgres
  secret:
    secretName: {{ .passwordSecret | quote }}
    items: [{ key: {{ .passwordKey | quote }}, path: password, mode: 288 }]
{{- end }}
{{- if .caSecret }}
- name: postgres-ca
  secret:
    secretName: {{ .caSecret | quote }}
    items: [{ key: {{ .caKey | quote }}, path: ca.crt }]
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "signet.mounts" -}}
- { name: config, mountPath: /etc/signet/config, readOnly: true }
- { name: run, mountPath: /run/signet }
- { name: sealing-key, mountPath: /run/signet/keys, readOnly: true }
{{- if .Values.caFiles.secret }}
- { name: ca-files, mountPath: /etc/signet/ca-files, readOnly: true }
{{- end }}
{{- if include "signet.asksVault" . }}
{{- if or .Values.vault.caConfigMap .Values.vault.caSecret }}
- { name: vault-ca, mountPath: /etc/signet/vault-ca, readOnly: true }
{{- end }}
{{- if eq .Values.vault.auth.method "kubernetes" }}
- { name: vault-token, mountPath: /var/run/secrets/vault, readOnly: true }
{{- else }}
- { name: vault, mountPath: /etc/signet/vault, readOnly: true }
{{- end }}
{{- end }}
{{- if eq .Values.storage.kind "postgres" }}
{{- if .Values.storage.postgres.passwordSecret }}
- { name: postgres, mountPath: /etc/signet/postgres, readOnly: true }
{{- end }}
{{- if .Values.storage.postgres.caSecret }}
- { name: postgres-ca, mountPath: /etc/signet/postgres-ca, readOnly: true }
{{- end }}
{{- else }}
- { name: data, mountPath: /var/lib/signet }
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "signet.pod" -}}
metadata:
  labels:
    {{- include "signet.selector" . | nindent 4 }}
    app.kubernetes.io/component: ca
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # Only `clusters` changes while a CA runs: everything else makes new pods.
    checksum/config: {{ omit (include "signet.config" . | fromYaml) "clusters" | toYaml | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "signet.serviceAccount" . }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  securityContext: {{- include "signet.podSecurity" . | nindent 4 }}
  # Requests in flight are finished within `drain`, and the database is closed.
  terminationGracePeriodSeconds: 40
  containers:
    - name: ca
      image: {{ include "signet.image" (dict "image" .Values.image "version" .Chart.AppVersion) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/signet/config/signet-ca.yaml]
      ports:
        - { name: grpc, containerPort: 15012 }
        - { name: ops, containerPort: 15014 }
      # Ready without an authority it is not: `init` makes one. Alive it is, so that nobody restarts it for that.
      readinessProbe:
        httpGet: { path: /readyz, port: ops }
        periodSeconds: 5
      livenessProbe:
        httpGet: { path: /livez, port: ops }
        periodSeconds: 10
        failureThreshold: 6
      securityContext: {{- include "signet.security" . | nindent 8 }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts: {{- include "signet.mounts" . | nindent 8 }}
  volumes: {{- include "signet.volumes" . | nindent 4 }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
