{{/* The name of everything that is there once. */}}
{{- define "signet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 46 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 46 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "signet.ca" -}}{{ include "signet.fullname" . }}-ca{{- end -}}
{{- define "signet.agent" -}}{{ include "signet.fullname" . }}-agent{{- end -}}

{{/* Cluster-wide objects of two releases of one name in two namespaces are two. */}}
{{- define "signet.clusterName" -}}{{ .Release.Namespace }}-{{ include "signet.ca" . }}{{- end -}}

{{- define "signet.serviceAccount" -}}
{{- default (include "signet.ca" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "signet.sealingSecret" -}}
{{- default (printf "%s-sealing-key" (include "signet.ca" .)) .Values.sealingKey.secret -}}
{{- end -}}

{{- define "signet.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "signet.labels" -}}
{{ include "signet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "signet.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .version $image.tag }}
{{- end -}}
{{- end -}}

{{/* Whether cert-manager is asked in the cluster that the CA runs in, so with the rights of its account. */}}
{{- define "signet.asksCertManager" -}}
{{- $now := and (eq .Values.backend "cert-manager") (eq (dig "authority" "cert_manager" "api_server" "in-cluster" .Values.config) "in-cluster") -}}
{{- $before := and (eq .Values.formerBackend "cert-manager") (eq (dig "authority" "former" "cert_manager" "api_server" "in-cluster" .Values.config) "in-cluster") -}}
{{- if or $now $before -}}true{{- end -}}
{{- end -}}

{{/* Whether Vault is asked, now or as what signed leaves before. */}}
{{- define "signet.asksVault" -}}
{{- if or (eq .Values.backend "vault") (eq .Values.formerBackend "vault") -}}true{{- end -}}
{{- end -}}

{{/* Puts how Vault is reached into a section of the configuration. */}}
{{- define "signet.reachesVault" -}}
{{- $vault := .section -}}
{{- with .values -}}
{{- $_ := set $vault "address" .address -}}
{{- if or .caConfigMap .caSecret -}}{{- $_ := set $vault "ca_file" "/etc/signet/vault-ca/ca.crt" -}}{{- end -}}
{{- $auth := dict "method" .auth.method -}}
{{- with .auth.mount -}}{{- $_ := set $auth "mount" . -}}{{- end -}}
{{- if eq .auth.method "kubernetes" -}}
{{- $_ := set $auth "role" .auth.role -}}
{{- $_ := set $auth "token_file" "/var/run/secrets/vault/token" -}}
{{- else -}}
{{- $_ := set $auth "role_id" .auth.roleId -}}
{{- $_ := set $auth "secret_id_file" "/etc/signet/vault/secret-id" -}}
{{- end -}}
{{- $_ := set $vault "auth" $auth -}}
{{- end -}}
{{- end -}}

{{- define "signet.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "signet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* The CA's configuration: what is set here, and over it nothing, since values.schema.json lets nobody set that. */}}
{{- define "signet.config" -}}
{{- $name := include "signet.ca" . -}}
{{- $config := deepCopy .Values.config -}}
{{- $own := list (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) (printf "%s.%s" $name .Release.Namespace) -}}
{{- $serving := default dict $config.serving -}}
{{- $_ := set $serving "dns_names" (concat (default list $serving.dns_names) $own | uniq) -}}
{{- if not (hasKey $serving "ip_addresses") -}}{{- $_ := set $serving "ip_addresses" list -}}{{- end -}}
{{- $_ := set $config "serving" $serving -}}
{{- $_ := set $config "listen" "[::]:15012" -}}
{{- $_ := set $config "ops" "[::]:15014" -}}
{{- $_ := set $config "admin" "unix:///run/signet/ca-admin.sock" -}}
{{- $_ := set $config "keys" (dict "encryption_key_file" "/run/signet/keys/encryption-key") -}}
{{- if .Values.caFiles.secret -}}
{{- $authority := default dict $config.authority -}}
{{- $_ := set $authority "backend" "files" -}}
{{- $_ := set $authority "files" "/etc/signet/ca-files" -}}
{{- $_ := set $config "authority" $authority -}}
{{- end -}}
{{- if ne .Values.backend "native" -}}
{{- $authority := default dict $config.authority -}}
{{- $_ := set $authority "backend" .Values.backend -}}
{{- if eq .Values.backend "vault" -}}
{{- $vault := default dict $authority.vault -}}
{{- include "signet.reachesVault" (dict "section" $vault "values" .Values.vault) -}}
{{- $_ := set $authority "vault" $vault -}}
{{- end -}}
{{- $_ := set $config "authority" $authority -}}
{{- end -}}
{{- if .Values.formerBackend -}}
{{- $authority := default dict $config.authority -}}
{{- $former := default dict $authority.former -}}
{{- $_ := set $former "backend" .Values.formerBackend -}}
{{- if eq .Values.formerBackend "vault" -}}
{{- $vault := default dict $former.vault -}}
{{- include "signet.reachesVault" (dict "section" $vault "values" .Values.vault) -}}
{{- $_ := set $former "vault" $vault -}}
{{- end -}}
{{- $_ := set $authority "former" $former -}}
{{- $_ := set $config "authority" $authority -}}
{{- end -}}
{{- if eq .Values.storage.kind "postgres" -}}
{{- $postgres := dict "tls" .Values.storage.postgres.tls "connections" .Values.storage.postgres.connections -}}
{{- if .Values.storage.postgres.passwordSecret -}}{{- $_ := set $postgres "password_file" "/etc/signet/postgres/password" -}}{{- end -}}
{{- if .Values.storage.postgres.caSecret -}}{{- $_ := set $postgres "ca_file" "/etc/signet/postgres-ca/ca.crt" -}}{{- end -}}
{{- $_ := set $config "storage" .Values.storage.postgres.url -}}
{{- $_ := set $config "postgres" $postgres -}}
{{- else -}}
{{- $_ := set $config "storage" "sqlite:///var/lib/signet/signet.db" -}}
{{- end -}}
{{ toYaml $config }}
{{- end -}}
